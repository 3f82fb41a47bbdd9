"""Episodes of agents, written down as they end: one JSON object a line.

Knows: what is kept of an episode, how a folder of them is begun, gone on with and read.
Does not know: agents, tokens, buffers.
A folder holds ``record.json`` (environment, split, agent) and ``episodes.jsonl``. A process that is killed leaves
at most one line half-written, which is dropped.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import gymnasium

from oreo_envs.base import TextEnv
from oreo_envs.limits import read_document, read_json
from oreo_envs.messages import Message
from oreo_envs.records import Scalar
from oreo_envs.replies import Usage

logger = logging.getLogger(__name__)

SETTINGS, EPISODES = "record.json", "episodes.jsonl"
_FORMAT = 1
_UNFINISHED = f".{SETTINGS}.tmp"


@dataclass(frozen=True)
class Row:
    """What became of one episode.

    Attributes:
        task_id: the task.
        index: of the task in its split.
        success: whether it was solved.
        reward: the sum of all rewards.
        steps: how often the agent acted.
        answer: the answer that was found in the response, None: none, or there are no answers here.
        truncated: a limit ended it.
        error: what the agent raised, "ValueError: ...", None: nothing; such an episode is not counted.
        messages: the whole conversation, as far as it came.
        info: what else the last ``info`` says in single values, such as ``grade_reason``.
        sample: which of the episodes of this task, from 0.
        rewards: after each action that reached the environment; an answer that was given at once may be closed by an
            empty one.
        spans: (message, start, end) of each of these actions in ``messages``, characters, end exclusive.
        terminated: the task ended it.
        usage: what replies took, where the agent says so.
    """

    task_id: str
    index: int
    success: bool
    reward: float
    steps: int
    answer: Any
    truncated: bool
    error: str | None
    messages: tuple[Message, ...] = field(repr=False)
    info: dict[str, Scalar] = field(repr=False)
    sample: int = 0
    rewards: tuple[float, ...] = field(default=(), repr=False)
    spans: tuple[tuple[int, int, int], ...] = field(default=(), repr=False)
    terminated: bool = False
    usage: Usage = field(default=Usage(), repr=False)

    @property
    def counted(self) -> bool:
        """Whether ``success`` says something: neither an error nor a verdict that was lost."""
        return self.error is None and self.info.get("grade_reason") != "not_graded"


_TOLD = {"messages", "task_id", "index", "split", "step", "success", "answer"}


class Track:
    """An episode while it is played."""

    def __init__(self, info: Mapping[str, Any], sample: int = 0) -> None:
        """Begin with what ``reset`` says."""
        self.info, self.sample = info, sample
        self.rewards: list[float] = []
        self.spans: list[tuple[int, int, int]] = []
        self.terminated = self.truncated = False

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.terminated or self.truncated

    def note(self, step: tuple[Any, Any, bool, bool, dict[str, Any]]) -> None:
        """Take down what ``step`` says: an action stands where the messages have grown."""
        before = self.info["messages"]
        goes_on = bool(before) and before[-1]["role"] == "assistant"
        message = len(before) - goes_on
        start = len(before[-1]["content"]) if goes_on else 0
        _, reward, self.terminated, self.truncated, self.info = step
        self.rewards.append(float(reward))
        self.spans.append((message, start, len(self.info["messages"][message]["content"])))

    def row(self, *, steps: int, error: str | None = None, usage: Usage | None = None, **more: Scalar) -> Row:
        """Return the episode as far as it came; ``more`` joins its ``info``."""
        info = self.info
        rest = {name: value for name, value in info.items() if name not in _TOLD and isinstance(value, Scalar)}
        return Row(
            task_id=info["task_id"],
            index=info["index"],
            success=bool(info["success"]) and error is None,
            reward=sum(self.rewards),
            steps=steps,
            answer=info["answer"],
            truncated=self.truncated,
            error=error,
            messages=tuple(info["messages"]),
            info=rest | {name: value for name, value in more.items() if value is not None},
            sample=self.sample,
            rewards=tuple(self.rewards),
            spans=tuple(self.spans),
            terminated=self.terminated,
            usage=usage or Usage(),
        )


class RecordFolder:
    """A folder that episodes are added to, by one process at a time."""

    def __init__(self, folder: str | Path, settings: Mapping[str, Any]) -> None:
        """Begin a folder, or go on with one.

        Args:
            folder: made if it is not there.
            settings: what its episodes have in common; what JSON cannot hold is written as text.

        Raises:
            ValueError: the folder holds episodes of other settings, or something else; another process writes there.
        """
        from filelock import FileLock, Timeout

        if not isinstance(folder, str | os.PathLike) or not str(folder).strip():
            raise ValueError(f"record={folder!r}: name a folder")
        self.folder = Path(folder).expanduser()
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"record={folder}: this is a file; name a folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / ".lock")
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise ValueError(
                f"record={folder}: another process writes there; wait for it, or name another folder"
            ) from None
        try:
            self.rows = self._begin(json.loads(json.dumps({"format": _FORMAT, **settings}, default=str)))
        except BaseException:
            self._lock.release()
            raise
        self._file = (self.folder / EPISODES).open("a", encoding="utf-8")

    def _begin(self, settings: dict[str, Any]) -> list[Row]:
        path = self.folder / SETTINGS
        if path.exists():
            before = _settings(path)
            differing = [name for name in {**before, **settings} if before.get(name) != settings.get(name)]
            if differing:
                told = "; ".join(
                    f"{name}: there {before.get(name)!r}, here {settings.get(name)!r}" for name in differing
                )
                raise ValueError(f"record={self.folder} holds other episodes ({told}); name another folder")
        elif any(one.name not in (".lock", _UNFINISHED) for one in self.folder.iterdir()):
            raise ValueError(f"record={self.folder}: not empty, and not a record of episodes; name another folder")
        else:
            whole = path.with_name(_UNFINISHED)
            with whole.open("w", encoding="utf-8") as file:
                file.write(json.dumps(settings, indent=1) + "\n")
                file.flush()
                os.fsync(file.fileno())
            whole.replace(path)
        episodes = self.folder / EPISODES
        if episodes.exists():
            _drop_half_line(episodes)
        return list(read_rows(self.folder)) if episodes.exists() else []

    def add(self, row: Row) -> None:
        """Write an episode down; it is in the file when this returns."""
        self._file.write(json.dumps(asdict(row), default=str) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Let others write."""
        self._file.close()
        self._lock.release()


def _drop_half_line(path: Path) -> None:
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        kept = content.rfind(b"\n") + 1
        logger.warning("%s: its last line was half-written and is dropped", path)
        with path.open("r+b") as file:
            file.truncate(kept)


def is_record(folder: str | Path) -> bool:
    """Whether a folder was written by ``RecordFolder``."""
    return (Path(folder).expanduser() / SETTINGS).is_file()


def read_settings(folder: str | Path) -> dict[str, Any]:
    """Return what the episodes of a folder have in common.

    Raises:
        ValueError: it is damaged, or of a later version.
    """
    return _settings(Path(folder).expanduser() / SETTINGS)


def _settings(path: Path) -> dict[str, Any]:
    try:
        settings = read_json(read_document(path))
        if settings["format"] != _FORMAT:
            raise ValueError(f"{path}: written in format {settings['format']!r}, and this version reads {_FORMAT}")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not the settings of a record ({error})") from error
    return dict(settings)


def read_rows(folder: str | Path) -> Iterable[Row]:
    """Yield the episodes of a folder, as they ended; lines that are damaged are left out and counted.

    Raises:
        FileNotFoundError: there are none.
    """
    path, known, damaged = Path(folder).expanduser() / EPISODES, {one.name for one in fields(Row)}, 0
    with path.open("rb") as lines:
        for line in lines:
            try:
                said = read_json(line)
                said["messages"] = tuple(
                    {"role": one["role"], "content": _unicode(one["content"])} for one in said["messages"]
                )
                said["spans"] = tuple(tuple(map(int, span)) for span in said["spans"])
                said["rewards"] = tuple(map(float, said["rewards"]))
                said["usage"] = Usage(**said["usage"])
                row = Row(**{name: value for name, value in said.items() if name in known})
                _check(row)
            except (ValueError, KeyError, TypeError, AttributeError):
                damaged += 1
                continue
            yield row
    if damaged:
        logger.warning("%s: %d damaged lines are left out", path, damaged)


def _unicode(text: str) -> str:
    """Return a text of which every character can be written: a lone surrogate becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _check(row: Row) -> None:
    """Raise ValueError where actions are not where a row says, or its parts are of another kind."""
    if not isinstance(row.info, dict) or len(row.spans) != len(row.rewards):
        raise ValueError("not a row")
    for message, start, end in row.spans:
        if not 0 <= message < len(row.messages) or not 0 <= start <= end <= len(row.messages[message]["content"]):
            raise ValueError("an action outside its message")


def common_settings(env: gymnasium.Env[str, str], agent: Mapping[str, Any] | str | None) -> dict[str, Any]:
    """What the episodes of an environment have in common."""
    inner: Any = env.unwrapped
    assert env.spec is not None
    options = {name: value for name, value in env.spec.kwargs.items() if name not in ("split", "render_mode")}
    return {
        "env_id": env.spec.id,
        "split": inner.split,
        "held_out": inner.split in inner.held_out_splits,
        "step_delimiters": inner.step_delimiters,
        "options": options,
        "agent": agent,
    }


class Recorder(gymnasium.Wrapper[str, str, str, str]):
    """Writes down every episode that is played to its end; put it around all other wrappers.

    Episodes of several environments at once go to a folder each. An episode that is reset before its end is not
    written; a folder that is there is added to.
    """

    def __init__(self, env: gymnasium.Env[str, str], folder: str | Path, *, agent: str | None = None) -> None:
        """Begin a folder, or go on with one.

        Args:
            env: one of this package, made by ``gym.make``.
            folder: where to write.
            agent: who plays, in a word or two.

        Raises:
            ValueError: it is an environment of another kind; see ``RecordFolder``.
        """
        super().__init__(env)
        if not isinstance(env.unwrapped, TextEnv) or env.spec is None:
            raise ValueError(f"Recorder takes text environments of this package, made by gym.make, got {env!r:.80}")
        self._folder = RecordFolder(folder, common_settings(env, agent))
        self._samples: dict[int, int] = {}
        for row in self._folder.rows:
            self._samples[row.index] = self._samples.get(row.index, 0) + 1
        self._track: Track | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Reset, and begin an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._track = Track(info, self._samples.get(info["index"], 0))
        return observation, info

    def step(self, action: str) -> tuple[str, Any, bool, bool, dict[str, Any]]:
        """Step, and write the episode down when it ends."""
        result = self.env.step(action)
        if self._track is not None and not self._track.over:
            self._track.note(result)
            if self._track.over:
                row = self._track.row(steps=len(self._track.rewards))
                self._folder.add(row)
                self._samples[row.index] = row.sample + 1
        return result

    def close(self) -> None:
        """Close the environment and the file."""
        self._folder.close()
        super().close()
