"""Episodes as data sets of Minari (the extra ``minari``): recorded while they are played, and exported.

Knows: what Minari can store: texts in a space that it can write down, and infos of the same single values at each step.
Does not know: buffers' files, tokens, how data sets are read (``minari_files``).
Both ways of making a data set write the same infos, one a state: ``task_id``, ``step``, ``success``, ``answer`` ("":
none) and ``more``, which is JSON of everything else, see ``minari_texts``.
Facts of minari 0.5.4: it knows no space but Gymnasium's own, stores no text that holds a NUL, and seeds each ``reset``
that has no seed, which would begin an order of tasks anew each time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import gymnasium
from gymnasium.spaces import Text

from oreo_envs.base import TextEnv
from oreo_envs.minari_texts import told_of

try:
    import minari
    from minari import StepDataCallback
    from minari.data_collector.episode_buffer import EpisodeBuffer
except ImportError as error:
    raise ImportError(f'oreo_envs.minari needs the extra: pip install "oreo-suite[minari]" ({error})') from error

_ALPHABET = "".join(map(chr, range(32, 127))) + "\n\t"


class AnyText(Text):
    """A ``Text`` that takes any text: what is written down of it is an alphabet that most texts keep to."""

    def __init__(self) -> None:
        """Make the space."""
        super().__init__(max_length=1 << 24, min_length=0, charset=_ALPHABET)

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is a ``str``."""
        return isinstance(x, str)


class _Recorded(StepDataCallback):
    """What is kept of a step."""

    def __call__(self, env: Any, obs: str, info: Mapping[str, Any], action: str | None = None, **step: Any) -> Any:
        """Return texts that can be stored, and infos of single values."""
        data = super().__call__(env, obs=_storable(obs), info=_single(info), **step)
        return data | {"action": None if action is None else _storable(action)}


class _NoSeedOption(gymnasium.Wrapper[str, str, str, str]):
    """Leaves out the option that Minari's collector reads."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        """Reset without the option."""
        if isinstance(options, Mapping):
            options = {name: value for name, value in options.items() if name != "minari_autoseed"}
        return self.env.reset(seed=seed, options=options)


class Collector(minari.DataCollector):
    """Minari's collector, which leaves an order of tasks as it is."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        """Reset; a seed is only invented where tasks are drawn anew each time."""
        if self.unwrapped.order.name != "random":
            options = {**(options or {}), "minari_autoseed": False}
        result: tuple[str, dict[str, Any]] = super().reset(seed=seed, options=options)
        return result

    def close(self) -> None:
        """Close the environment, and the temporary folder in full."""
        super().close()
        self._tmp_dir.cleanup()


def collector(env: gymnasium.Env[str, str], *, data_format: str | None = None) -> Collector:
    """Return ``env`` with every episode recorded; ``create_dataset("name-v0")`` of it writes a data set.

    Args:
        env: an environment of this package, wrapped or not.
        data_format: "hdf5", "arrow" or "parquet"; None: Minari's default.

    Raises:
        ValueError: it is an environment of another kind.
    """
    if not isinstance(env.unwrapped, TextEnv):
        raise ValueError(f"collector records the text environments of this package, got {env!r:.80}")
    return Collector(
        _NoSeedOption(env),
        step_data_callback=_Recorded,
        record_infos=True,
        observation_space=AnyText(),
        action_space=AnyText(),
        data_format=data_format,
    )


def export(episodes: Iterable[Any], dataset_id: str, *, data_format: str | None = None, **description: Any) -> Any:
    """Write episodes of a buffer as a data set.

    Args:
        episodes: with ``messages``, ``action_spans``, ``rewards``, ``terminated``, ``truncated``, ``task_id``,
            ``success`` and ``info``, such as those of an ``oreo_algos.EpisodeBuffer``.
        dataset_id: "name-v0", or with a namespace, "mine/name-v0".
        data_format: "hdf5", "arrow" or "parquet"; None: Minari's default.
        description: further arguments of ``minari.create_dataset_from_buffers``.

    Returns:
        The ``MinariDataset``.

    Raises:
        ValueError: no episodes, or one whose actions are not located in its messages.
    """
    buffers = [_buffer(number, episode) for number, episode in enumerate(episodes)]
    if not buffers:
        raise ValueError(f"{dataset_id}: there are no episodes to export")
    return minari.create_dataset_from_buffers(
        dataset_id,
        buffers,
        observation_space=AnyText(),
        action_space=AnyText(),
        data_format=data_format,
        **description,
    )


def _buffer(number: int, episode: Any) -> Any:
    if episode.action_spans is None:
        raise ValueError(f"episode {number} ({episode.task_id}) does not say where its actions stand in its messages")
    messages: Sequence[Mapping[str, str]] = episode.messages
    spans = [tuple(map(int, span)) for span in episode.action_spans]
    actions = [messages[at]["content"][start:end] for at, start, end in spans]
    count = len(actions)
    # What the environment said between an action and the next one, which may be of the same message: nothing.
    until = [at for at, _, _ in spans[1:]] + [len(messages)]
    between = [messages[at + 1 : end] for (at, _, _), end in zip(spans, until, strict=True)]
    opening = messages[: spans[0][0]]
    texts = [
        opening[-1]["content"] if opening else "",
        *("\n".join(one["content"] for one in said) for said in between),
    ]
    last = {**episode.info, "success": episode.success, "task_id": episode.task_id}
    states = [{"task_id": episode.task_id, "step": step} for step in range(count + 1)]
    states[0] |= {"messages": opening, "env_id": episode.env_id}
    states[-1] = last | {"step": count}
    rewards = [float(reward) for reward in episode.rewards]
    kept = {"observations": [*map(_storable, texts)], "actions": [*map(_storable, actions)]}
    infos = [_single(state) for state in states]
    whole = {"messages": list(messages), "action_spans": [*map(list, spans)], "info": dict(episode.info)}
    whole |= {"task_id": episode.task_id}
    told = told_of(kept | {"rewards": rewards, "infos": {name: [info[name] for info in infos] for name in infos[0]}})
    if unsaid := {name: value for name, value in whole.items() if told[name] != value}:
        infos[0] = _single(states[0] | {"episode": unsaid})
    return EpisodeBuffer(
        id=number,
        **kept,
        rewards=rewards,
        terminations=[False] * (count - 1) + [bool(episode.terminated)],
        truncations=[False] * (count - 1) + [bool(episode.truncated)],
        infos={name: [info[name] for info in infos] for name in infos[0]},
    )


def _single(info: Mapping[str, Any]) -> dict[str, Any]:
    """The same single values at each state, see the module."""
    first = info.get("step", 0) == 0
    named = {"task_id", "step", "success", "answer"}
    more = {name: value for name, value in info.items() if name not in named and (first or name != "messages")}
    return {
        "task_id": _storable(info["task_id"]),
        "step": int(info.get("step", 0)),
        "success": bool(info.get("success", False)),
        "answer": _storable(info.get("answer") or ""),
        "more": json.dumps(more, default=str),
    }


def _storable(text: Any) -> str:
    """The text without what cannot be stored, NUL and lone surrogates."""
    return str(text).replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
