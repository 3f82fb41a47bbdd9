"""What is known of a model, a template or a tokenizer, in one line."""

from typing import NamedTuple


class Capability(NamedTuple):
    """One thing that may work: ``status`` is ok, slow or refused, and ``why`` says how, or why not."""

    name: str
    status: str
    why: str
