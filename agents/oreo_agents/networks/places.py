"""Where a checkpoint is said to be: in a folder, or on the hub under a name.

Knows: names of files and of the hub. Does not know: what is in the files.
"""

import difflib
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from oreo_envs import hub

WANTED = "give a folder with config.json, model.safetensors and tokenizer files, or a model's name on the hub"

_CONFIGURATIONS = ("config.json", "adapter_config.json")
_TOKENIZERS = ("*token*", "vocab*", "merges*", "*.model")


def require_folder_or_name(path: str) -> None:
    """Refuse what is no folder and could be no name on the hub, or is on the hub alone, which cannot be reached.

    Raises:
        ValueError: nothing, a file, a folder that is not there, or a name of what cannot be had now.
    """
    if not path.strip():
        raise ValueError(f"no checkpoint is named (the path is {path!r}); {WANTED}")
    place = Path(path)
    if place.is_dir():
        return
    if place.exists():
        raise ValueError(f"{path}: this is a file; give the folder that it lies in")
    try:
        validate_repo_id(path)
    except HFValidationError as error:
        raise ValueError(f"{path}: there is no such folder{_near(place)}; {WANTED}") from error
    if not hub.is_cached(path) and (why := hub.why_unreachable()):
        raise ValueError(
            f"{path}: there is no such folder{_near(place)}, and no model of that name in the cache of the hub, which "
            f"cannot be reached ({why}); {WANTED}"
        )


def _near(place: Path) -> str:
    """Return what tells a folder of almost that name, where there is one."""
    beside = place.parent
    names = [child.name for child in beside.iterdir() if child.is_dir()] if beside.is_dir() else []
    near = difflib.get_close_matches(place.name, names, n=1, cutoff=0.75)
    return f" (did you mean {str(beside / near[0])!r}?)" if near else ""


@contextmanager
def hub_asked_once(path: str) -> Iterator[None]:
    """Read what is not in a folder from the hub's cache alone, where one short attempt does not reach the hub."""
    if Path(path).is_dir():
        yield
    else:
        with hub.cache_if_unreachable():
            yield


def require_checkpoint_at(path: str) -> None:
    """Refuse what is no folder of a checkpoint, or of adapters, and could be no name on the hub.

    Raises:
        ValueError: see `require_folder_or_name`; or the folder has no configuration.
    """
    require_folder_or_name(path)
    if not Path(path).is_dir() or _has_configuration(Path(path)):
        return
    inside = sorted(child.name for child in Path(path).iterdir() if child.is_dir() and _has_configuration(child))
    hint = f"give one of those in it: {', '.join(inside[:5])}" if inside else WANTED
    raise ValueError(f"{path}: this folder is no checkpoint, it has no config.json; {hint}")


def _has_configuration(folder: Path) -> bool:
    return any((folder / name).exists() for name in _CONFIGURATIONS)


def may_have_tokenizer(path: str) -> bool:
    """Whether a folder has files of a tokenizer; on the hub nothing is known."""
    return not Path(path).is_dir() or any(next(Path(path).glob(name), None) for name in _TOKENIZERS)


def require_no_remote_code(path: str, error: Exception) -> None:
    """Say what to do where an error says that code of a checkpoint would have to be run.

    Raises:
        ValueError: it does.
    """
    if "trust_remote_code" in str(error):
        raise ValueError(
            f"{path}: its model or tokenizer is code that comes with the checkpoint, which is not run unasked; read "
            "it, and set policy.trust_remote_code=true if you trust it"
        ) from error


def first_line(error: Exception) -> str:
    """Return what an error says at first, as one line of some 300 letters at most, or else what it is."""
    said = str(error).strip().partition("\n\n")[0]
    return textwrap.shorten(said, 300, placeholder=" ...") or type(error).__name__
