"""The command ``oreo push``: a saved network with its card to the Hugging Face hub.

Knows: which files are a network, what the hub's library says when it cannot. Does not know: how files travel.
"""

import argparse
import fnmatch
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import HfApi, get_token
from huggingface_hub.constants import is_offline_mode
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id

from oreo_envs.limits import read_document, read_json

CARD = "README.md"
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
# What a training leaves beside a network: states of optimisers and schedules, settings of the machine, logs.
TRAINING = (
    *("checkpoint-*/*", "*/checkpoint-*/*", "global_step*/*", "runs/*", "wandb/*", "optimizer*", "scheduler*"),
    *("rng_state*", "trainer_state.json", "training_args.bin", "scaler.pt", "zero_to_fp32.py", "latest"),
    *("events.out.tfevents*", "*.lock", "*.tmp"),
)


def main(arguments: Sequence[str]) -> None:
    """Upload a folder, or say what would be.

    Raises:
        ValueError: the folder is no network, the name is none of the hub's, or the hub cannot be reached or refuses.
    """
    parser = argparse.ArgumentParser(
        prog="oreo push", description="Upload a policy or value network, with its card, to the Hugging Face hub."
    )
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="RUN/NAME/policy, RUN/NAME/value, or any checkpoint"
    )
    parser.add_argument("repo", metavar="REPO_ID", help="NAME, or ORGANISATION/NAME, on the hub")
    parser.add_argument("--private", action="store_true", help="nobody else sees it")
    parser.add_argument("--dry-run", action="store_true", help="say what would be uploaded, and upload nothing")
    parser.add_argument(
        "--with-checkpoints", action="store_true", help="upload training checkpoints and optimizer states too"
    )
    given = parser.parse_args(arguments)
    try:
        validate_repo_id(given.repo)
    except HFValidationError as error:
        raise ValueError(f"{given.repo!r} is no name of a repository on the hub, as in me/my-policy: {error}") from None
    files = chosen_files(given.folder, training=given.with_checkpoints)
    left = sum(1 for file in _visible(given.folder)) - len(files)
    size = sum((given.folder / file).stat().st_size for file in files)
    print(*(f"  {file}  {_size((given.folder / file).stat().st_size)}" for file in files), sep="\n")
    beside = f"; {left} files of training stay here (--with-checkpoints uploads them)" if left else ""
    print(f"{len(files)} files, {_size(size)}{beside}")
    if not (given.folder / CARD).is_file():
        print(f"there is no {CARD}: a reader of the hub will not know what this is")
    if given.dry_run:
        print(f"dry run: nothing was uploaded to {given.repo}")
        return
    print(push(given.folder, given.repo, files, private=given.private))


def push(folder: Path, repo: str, files: Sequence[str], *, private: bool = False, api: HfApi | None = None) -> str:
    """Upload files of a folder in one commit; the code of the card names the repository in place of the folder.

    Args:
        folder: of the network.
        repo: its name; it is made unless it is there.
        files: of the folder, see ``chosen_files``.
        private: refuse one that others see.
        api: of the hub; None: the public one, or what ``HF_ENDPOINT`` says.

    Returns:
        The address of the commit.

    Raises:
        ValueError: offline, without a token, or refused by the hub.
    """
    api = api or HfApi()
    if is_offline_mode():
        raise ValueError("HF_HUB_OFFLINE is set: unset it to upload; nothing was uploaded")
    if not (api.token or get_token()):
        raise ValueError("no token of the hub: run `hf auth login`, or set HF_TOKEN; nothing was uploaded")
    try:
        made = api.create_repo(repo, private=private or None, exist_ok=True)
        repo = made.repo_id
        if private and not api.model_info(repo).private:
            raise ValueError(
                f"{repo} is there already and others see it: make it private on the hub, or choose a new name"
            )
        with TemporaryDirectory() as staged:
            _stage(folder, files, Path(staged), repo)
            return str(
                api.upload_folder(repo_id=repo, folder_path=staged, commit_message="Upload with oreo push").commit_url
            )
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        hint = {
            401: "the token is not valid: run `hf auth login`, or set HF_TOKEN",
            403: "the token may not write there: make one with the role `write`, or choose your own name",
        }.get(status or 0, "see the message of the hub")
        if isinstance(error, RepositoryNotFoundError) and status != 401:
            hint = "there is no such repository for this token"
        raise ValueError(f"{repo}: the hub refused ({_first_line(error)}); {hint}") from error
    except (OfflineModeIsEnabled, OSError) as error:
        raise ValueError(
            f"the hub cannot be reached ({_first_line(error)}); nothing was committed to {repo}"
        ) from error
    except Exception as error:
        # The hub's library lets through what its HTTP client raises, and has had several.
        if not type(error).__module__.startswith(("httpx", "httpcore", "requests", "urllib3")):
            raise
        raise ValueError(
            f"the hub cannot be reached ({_first_line(error)}); nothing was committed to {repo}"
        ) from error


def chosen_files(folder: Path, *, training: bool = False) -> list[str]:
    """Return the files of a network that are uploaded, relative to its folder, sorted; hidden ones never are.

    Args:
        folder: of the network.
        training: with what a training left in it.

    Raises:
        ValueError: the folder holds no network, or adapters of a model that lies on this machine alone.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; give one that holds a network, such as RUN/oreo/policy")
    files = [file for file in _visible(folder) if training or not _of_training(file)]
    named = [file for file in files if "/" not in file]
    weights = any(fnmatch.fnmatch(file, pattern) for file in named for pattern in WEIGHTS)
    if not weights or not {"config.json", "adapter_config.json"} & {*named}:
        parts = [part for part in ("policy", "value") if (folder / part / "config.json").is_file()]
        runs = sorted(str(path.parent.relative_to(folder)) for path in folder.glob("*/policy/config.json"))
        inside = [str(folder / part) for part in parts] or [str(folder / run) for run in runs]
        hint = (
            f"push {' or '.join(inside)}, each to a name of its own" if inside else "give a folder of `save_pretrained`"
        )
        raise ValueError(f"{folder}: no network, which is config.json with weights (*.safetensors); {hint}")
    if "adapter_config.json" in named:
        base = read_json(read_document(folder / "adapter_config.json")).get("base_model_name_or_path")
        if base is not None and (Path(base).is_absolute() or Path(base).exists()):
            raise ValueError(
                f"{folder}: these adapters adapt a model in a folder of this machine, which others do not have; train "
                "from a model of the hub, or save the merged weights (lora.save=merged)"
            )
    return files


def _visible(folder: Path) -> list[str]:
    """List the files that are not hidden, nor in a hidden folder."""
    paths = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts)]


def _of_training(file: str) -> bool:
    name = file.rpartition("/")[2]
    return any(fnmatch.fnmatch(file, pattern) or fnmatch.fnmatch(name, pattern) for pattern in TRAINING)


def _stage(folder: Path, files: Sequence[str], staged: Path, repo: str) -> None:
    """Link what is uploaded; the card alone is written anew."""
    for file in files:
        target = staged / file
        target.parent.mkdir(parents=True, exist_ok=True)
        if file == CARD:
            text = (folder / file).read_text(encoding="utf-8")
            target.write_text(re.sub(r'^name = "\."  # .*$', f'name = "{repo}"', text, flags=re.M), encoding="utf-8")
        else:
            target.symlink_to((folder / file).resolve())


def _size(number: int) -> str:
    value, unit = float(number), "B"
    for larger in ("kB", "MB", "GB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__
