"""What a network can do, in a form that can be shown.

Knows: three words. Does not know: networks, templates.
"""

from typing import Literal, NamedTuple


class Capability(NamedTuple):
    """One thing that is asked of a checkpoint, and what was found.

    Attributes:
        name: what is asked.
        status: "ok"; "slow": another way is taken, which gives the same numbers; "refused": not possible.
        why: what was found, or what stands in the way and what to do.
    """

    name: str
    status: Literal["ok", "slow", "refused"]
    why: str
