"""The environment ``oreo/ReasoningGym-v0``: the procedural tasks of the package reasoning-gym.

Knows: which of its tasks can be trusted, how one is drawn for a split, how an answer is handed to its scorer.
Does not know: what the tasks are about.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import lru_cache
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np

from oreo_envs.answers import AnswerEnv, Item, index_after
from oreo_envs.base import Scalar, TextEnv
from oreo_envs.checks import choose, flag
from oreo_envs.grading import Reason, extract_answer
from oreo_envs.grading.thoughts import NO_THOUGHTS
from oreo_envs.splits import SPLITS, split_of

NUM_TASKS = 10_000
"""Tasks of a split. Part of what a task is: some generators draw from the whole size."""

# Generators add the index to the seed, so that seeds this far apart share no task.
_SEEDS = 1_000_000
_MAX_DRAWS = 100

_RUNS_ANSWERS = "its scorer runs answers as Python code"
_OF_THE_PROCESS = "its questions depend on the hash seed of the Python process"

FLAWS = {
    "binary_matrix": _RUNS_ANSWERS,
    "codeio": "its questions depend on what was drawn before",
    "coin_flip": "its scorer pays any beginning of the right number, such as 0, in full",
    "complex_arithmetic": "its scorer pays nan in full",
    "countdown": _RUNS_ANSWERS + "; oreo/Countdown-v0 does not",
    "fraction_simplification": "its scorer pays the right fraction followed by others in full",
    "game_of_life_halting": "its scorer pays any text in full",
    "gsm_symbolic": "its scorer pays the right number with the wrong sign, or followed by others, in full",
    "intermediate_integration": _RUNS_ANSWERS + ", and pays the integral as it was asked in full",
    "isomorphic_strings": _OF_THE_PROCESS,
    "knight_swap": _OF_THE_PROCESS,
    "knights_knaves": "its scorer pays the right sentences in full also where they are denied",
    "letter_jumble": "its scorer pays the right words followed by others in full",
    "n_queens": _RUNS_ANSWERS,
    "number_sorting": "its scorer pays numbers that are 1% off in full",
    "polynomial_multiplication": f"{_RUNS_ANSWERS}, and {_OF_THE_PROCESS}",
    "propositional_logic": "its scorer pays a premise, copied, in full",
    "puzzle24": _RUNS_ANSWERS + ", and pays 24 made of other numbers in full",
    "ransom_note": _OF_THE_PROCESS,
    "simple_integration": _RUNS_ANSWERS + ", and pays the integral as it was asked in full",
    "spiral_matrix": _RUNS_ANSWERS,
    "string_insertion": _RUNS_ANSWERS,
    "time_intervals": "its scorer pays the right time with the wrong sign in full",
    "word_ladder": _OF_THE_PROCESS,
}
"""Tasks of reasoning-gym 0.1.25 that are refused, and why; see docs/reasoning_gym.md for how this was found."""

_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


class ReasoningGymEnv(AnswerEnv):
    r"""``oreo/ReasoningGym-v0``: a procedural task of reasoning-gym, named by ``task``.

    Action: one chunk of the solution, usually a line; a whole solution may be passed at once.
    Observation: the question at reset, then always "".
    Start: ``options={"index": i}``, ``{"task_id": ...}``, or drawn from the seed.
    Reward: 1.0 when the task's own scorer gives the final answer the full score, else 0.0.
    Episode end: terminated by an empty action (by any with ``single_turn``), or with the line of the first ``####
        x``, closed ``\boxed{}`` or closed ``<answer>``, which may have several lines; truncated at ``max_steps``
        actions or ``max_chars`` characters, and graded.
    Info: ``messages, task_id, index, split, step, success, answer``; once over also ``grade_reason`` and ``score``
        (the scorer's own, 0..1; partial scores may be paid for nothing but form, and are no reward here).
    Source and version: Stojanovski et al. 2025 (arXiv:2505.24760), the package that is installed; v0. A task id holds
        a fingerprint of the settings and of the package's version, with which questions change.
    """

    default_prompt = "answer-tags"
    splits: ClassVar[tuple[str, ...]] = SPLITS
    step_delimiters: ClassVar[tuple[str, ...]] = ("\n",)

    def __init__(
        self,
        *,
        task: str = "chain_sum",
        config: Mapping[str, Any] | None = None,
        allow_flawed: bool = False,
        split: str = "train",
        prompt: str | None = None,
        max_steps: int | None = 256,
        max_chars: int = 32_768,
        **shared: Any,
    ) -> None:
        """Name the task.

        Args:
            task: one of reasoning-gym's, such as "chain_sum", "sudoku" or "zebra_puzzles"; not "composite".
            config: its settings, such as ``{"min_terms": 3}``; "seed" and "size" are the split's.
            allow_flawed: take also a task of ``FLAWS``.
            split: "train", "dev" or "test": other seeds, and no question is in two of them.
            prompt: a template of ``oreo_envs.prompts``; None: ``default_prompt``.
            max_steps: actions before truncation; None: no limit.
            max_chars: characters of response before truncation.
            shared: what all such environments take, see ``AnswerEnv``.

        Raises:
            ImportError: reasoning-gym is not installed.
            ValueError: an unknown task or setting, or a task that is refused.
        """
        prompt = self.default_prompt if prompt is None else prompt
        super().__init__(split=split, prompt=prompt, max_steps=max_steps, max_chars=max_chars, **shared)
        self.task = choose("task", task, sorted(set(_package().factory.DATASETS) - {"composite"}))
        if not flag("allow_flawed", allow_flawed) and task in FLAWS:
            raise ValueError(f"task {task!r} is refused: {FLAWS[task]}; allow_flawed=True takes it as it is")
        self.config = _config(self.task, config)
        _dataset(self.task, self.config, _SEEDS)

    @property
    def num_tasks(self) -> int:
        """Number of tasks in the split."""
        return NUM_TASKS

    @property
    def _prefix(self) -> str:
        digest = hashlib.blake2b(f"{version('reasoning-gym')} {self.config}".encode(), digest_size=3).hexdigest()
        return f"reasoning_gym/{self.task}-{digest}/{self.split}"

    def _make_item(self, index: int) -> Item:
        _, entry = _entry(self.task, self.config, self.split, index)
        return Item(f"{self._prefix}/{index}", entry["question"], str(entry["answer"]))

    def _index_of(self, task_id: str) -> int | None:
        index = index_after(self._prefix, task_id)
        return index if index is not None and index < self.num_tasks else None

    def _task_ids(self) -> tuple[str, ...]:
        return (f"{self._prefix}/0",)

    def _judge(self, index: int, response: str) -> tuple[bool, dict[str, Any]]:
        tagged = _TAGGED.findall(response)
        answer = tagged[-1].strip() or None if tagged else extract_answer(response, NO_THOUGHTS)
        score, reason = (0.0, Reason.NO_ANSWER) if answer is None else self._score(index, answer)
        return score >= 1.0, {
            "success": score >= 1.0,
            "answer": answer,
            "grade_reason": reason.value,
            "score": score,
        }

    def canonical(self, answer: str) -> str:
        """Return the plain form: a scorer compares texts, each in its own way."""
        return TextEnv.canonical(self, answer)

    def _score(self, index: int, answer: str) -> tuple[float, Reason]:
        dataset, entry = _entry(self.task, self.config, self.split, index)
        try:
            with _undisturbed():
                # A copy: what a scorer does to its entry must not reach the next answer.
                score = float(dataset.score_answer(answer, copy.deepcopy(entry)))
        except Exception:  # some scorers raise whatever reading a text raises
            return 0.0, Reason.UNPARSABLE
        return score, Reason.EXACT if score >= 1.0 else Reason.DIFFERENT

    def _solution(self, index: int, seed: int) -> tuple[str, dict[str, Scalar]]:
        raise NotImplementedError(
            "oreo/ReasoningGym-v0 has no demonstrations: reasoning-gym knows answers, not how they are found; begin "
            "with a checkpoint, or with sft.demonstrations=0"
        )


def _config(task: str, config: Any) -> str:
    """Settings of a task as JSON."""
    if not isinstance(config, Mapping | None):
        raise ValueError(f"config must be settings of the task by name, got {config!r}")
    known = [field.name for field in fields(_package().factory.DATASETS[task][1])]
    for name in config or {}:
        if name in ("seed", "size"):
            raise ValueError(f"config: {name!r} is the split's, which has tasks and seeds of its own; leave it out")
        choose(f"setting of task {task!r} in config", name, [name for name in known if name not in ("seed", "size")])
    try:
        return json.dumps(dict(config or {}), sort_keys=True)
    except (TypeError, ValueError) as error:
        raise ValueError(f"config must be numbers, texts, lists and mappings, got {config!r}: {error}") from None


@lru_cache(maxsize=64)
def _dataset(task: str, config: str, seed: int) -> Any:
    """The generator of a task; it is not part of an environment's state."""
    try:
        with _undisturbed():
            return _package().create_dataset(task, seed=seed, size=NUM_TASKS, **json.loads(config))
    except (AssertionError, TypeError, ValueError) as error:
        raise ValueError(f"reasoning-gym makes no task {task!r} of {config}: {error}") from error


@lru_cache(maxsize=1024)
def _entry(task: str, config: str, split: str, index: int) -> tuple[Any, dict[str, Any]]:
    """Draw task ``index`` of a split until its question belongs to the split; its generator, and its entry."""
    for draw in range(_MAX_DRAWS):
        dataset = _dataset(task, config, (1 + draw * len(SPLITS) + SPLITS.index(split)) * _SEEDS)
        with _undisturbed():
            entry = dict(dataset[index])
        if split_of(entry["question"]) == split:
            return dataset, entry
    raise ValueError(f"reasoning-gym's {task!r} of {config} has too few questions for a split {split!r}")


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Put back the global random generators, from which some tasks draw."""
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _package() -> Any:
    try:
        import reasoning_gym
    except ImportError as error:
        raise ImportError(
            f'oreo/ReasoningGym-v0 needs reasoning-gym ({error}): pip install "oreo-suite[reasoning-gym]"'
        ) from error
    return reasoning_gym
