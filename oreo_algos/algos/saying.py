"""What is said once a process, however often it is noticed: episodes are selected before a run and again in it.

Knows: messages. Does not know: what they are about.
"""

import functools
import logging


@functools.cache
def warn_once(log: logging.Logger, message: str) -> None:
    """Warn, unless this was said before."""
    log.warning(message)
