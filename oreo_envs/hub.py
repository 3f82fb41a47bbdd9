"""The Hugging Face hub, asked briefly: one short attempt tells whether it can be reached.

Knows: huggingface_hub, which is loaded with the first question. Does not know: what lies there, who wants it.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ATTEMPT_S = 3.0
# How long what was found out holds, seconds: all of what one command loads, but not until a network is mended.
_HOLDS_S = 20.0

_found: tuple[float, str | None] | None = None

_lock = threading.Lock()
_within: list[bool] = []  # what the hub's own switch was, for each that waits in ``cache_if_unreachable``


def why_unreachable() -> str | None:
    """Return what keeps the hub away, after one attempt of at most some seconds; None: it answers."""
    global _found
    from huggingface_hub import constants

    if _found is None or time.monotonic() - _found[0] > _HOLDS_S:
        why = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else _try(constants.ENDPOINT)
        _found = (time.monotonic(), why)
    return _found[1]


def is_cached(name: str, kind: str = "model") -> bool:
    """Whether something of a repository lies in the cache; ``kind`` is "model" or "dataset"."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return (Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type=kind)).is_dir()


@contextmanager
def cache_if_unreachable() -> Iterator[None]:
    """Let the hub's clients read their cache alone within, without a request, where the hub cannot be reached.

    They would ask for each file anew, and wait half a minute for each that is not there.
    """
    from huggingface_hub import constants

    away = why_unreachable() is not None
    with _lock:
        _within.append(_within[0] if _within else constants.HF_HUB_OFFLINE)
        constants.HF_HUB_OFFLINE = away or constants.HF_HUB_OFFLINE
    try:
        yield
    finally:
        with _lock:
            before = _within.pop()
            if not _within:
                constants.HF_HUB_OFFLINE = before


def _try(endpoint: str) -> str | None:
    """Ask once; in a thread, for nothing limits how long a name is looked up."""
    told: list[str | None] = []
    thread = threading.Thread(target=lambda: told.append(_ask(endpoint)), daemon=True)
    thread.start()
    thread.join(_ATTEMPT_S)
    return told[0] if told else f"{endpoint} does not answer within {_ATTEMPT_S:.0f} seconds"


def _ask(endpoint: str) -> str | None:
    from huggingface_hub.utils import get_session

    try:
        status = get_session().head(endpoint, timeout=_ATTEMPT_S).status_code
    except Exception as error:  # whatever the client of the hub raises: there is no answer
        return f"{endpoint}: {str(error) or type(error).__name__}"
    return None if status < 500 else f"{endpoint} answers with status {status}"
