"""A policy in a table and its true value: how it reads each verb of a word problem is all it can get wrong."""

import itertools
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import oreo_envs  # noqa: F401 (registers the ids)
from oreo_agents.episodes import sampler as sampler_module
from oreo_agents.episodes.generate import Sample, Sampling
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.networks.kv_cache import Prefix
from oreo_agents.networks.tiny import word_tokenizer
from oreo_agents.search import Answer, Player, Search
from oreo_envs.arithmetic import Problem, Reading, solve

MAKE_ENV = partial(
    gym.make, "oreo/Arithmetic-v0", split="test", disable_env_checker=True, answer="exact", verbs_per_problem=(2, 2)
)
FORMAT = PromptFormat(word_tokenizer(MAKE_ENV().unwrapped.vocabulary()))  # type: ignore[attr-defined]
NUM_PROBLEMS = 12
READINGS = list(Reading)
MAKE_MIXED_ENV = partial(MAKE_ENV, verbs_per_problem=(1, 3))
PROBLEMS, MIXED_PROBLEMS = (
    [make().unwrapped.problem(index) for index in range(NUM_PROBLEMS)]  # type: ignore[attr-defined]
    for make in (MAKE_ENV, MAKE_MIXED_ENV)
)
ASKED: dict[str, Problem] = {problem.question: problem for problem in [*PROBLEMS, *MIXED_PROBLEMS]}


@cache
def solutions(question: str) -> dict[tuple[Reading, ...], str]:
    """Every way to answer a question, by how its verbs are read."""
    problem = ASKED[question]
    every = itertools.product(READINGS, repeat=len(problem.verbs))
    return {readings: solve(problem, readings) for readings in every}


def complete(text: str, draw: Callable[[], float] | None) -> str:
    """Return how the policy goes on: it likes one reading of a verb, and takes another one half the time.

    Args:
        text: the question, a line break, and the answer so far.
        draw: numbers in [0, 1); None: it always takes the reading that it likes.
    """
    question, _, said = text.partition("\n")
    fitting = {readings: text for readings, text in solutions(question).items() if text.startswith(said)}
    for place in range(len(ASKED[question].verbs)):
        choices = sorted({readings[place] for readings in fitting}, key=READINGS.index)
        liked = READINGS[len(question) % 4]
        taken = liked if liked in choices else choices[0]
        if draw is not None and draw() < 0.5:
            taken = choices[int(draw() * len(choices))]
        fitting = {readings: text for readings, text in fitting.items() if readings[place] == taken}
    [whole] = fitting.values()
    return whole.removeprefix(said)


def right_answer(text: str) -> str:
    question, _, _ = text.partition("\n")
    return f"#### {ASKED[question].answer}"


def greedy_is_right(text: str) -> float:
    """The true value of greedy decoding: whether it ends right from here."""
    return float((text + complete(text, None)).endswith(right_answer(text)))


def success_probability(text: str) -> float:
    """How likely the drawn policy ends right, by the share of readings that fit; enough to order states."""
    question, _, said = text.partition("\n")
    fitting = [whole for whole in solutions(question).values() if whole.startswith(said)]
    return sum(whole.endswith(right_answer(text)) for whole in fitting) / len(fitting)


class TrueValue(nn.Module):
    """V of the state after all tokens of a row; remembers how many tokens it was given to read."""

    resumes = True

    def __init__(self, of_text: Callable[[str], float]) -> None:
        """Judge the text of a row by ``of_text``."""
        super().__init__()
        self.of_text = of_text
        self.anywhere = nn.Parameter(torch.zeros(1))
        self.read = 0

    def values_after(
        self, transcripts: Sequence[Sequence[int]], prefixes: Sequence[Prefix]
    ) -> tuple[Tensor, list[Prefix]]:
        known = [prefix.before(len(row)) for row, prefix in zip(transcripts, prefixes, strict=True)]
        new = [torch.zeros(len(row) - len(prefix), 1) for row, prefix in zip(transcripts, known, strict=True)]
        self.read += sum(map(len, new))
        values = torch.tensor([self.of_text(FORMAT.decode(row)) for row in transcripts])
        return values, [prefix.then(chunk) for prefix, chunk in zip(known, new, strict=True)]


class TablePolicy(nn.Module):
    """What `generate` below is given; it says what `complete` says, and remembers how many tokens that was."""

    def __init__(self) -> None:
        """Say nothing yet."""
        super().__init__()
        self.anywhere = nn.Parameter(torch.zeros(1))
        self.max_length = 512
        self.generated = 0
        self.rows: list[int] = []


def generate(
    policy: Any,
    prompts: Sequence[Sequence[int]],
    end_ids: Any,
    sampling: Sampling,
    *,
    choices: Any = None,
    sources: Sequence[np.random.Generator | None] | None = None,
    stops: Any = None,
    spoken: Sequence[int] | None = None,
    caches: Sequence[Prefix] | None = None,
) -> list[Sample]:
    """Stand in for ``oreo_agents.episodes.generate.generate``."""
    samples = []
    policy.rows.append(len(prompts))
    for i, prompt in enumerate(prompts):
        source = None if sources is None else sources[i]
        draw: Callable[[], float] | None = None if source is None else source.random
        tokens = [*FORMAT.encode(complete(FORMAT.decode(prompt), draw)), FORMAT.end_of_turn]
        limit = sampling.max_new_tokens - (spoken[i] if spoken else 0)
        sample = Sample([], [])
        for token in tokens[:limit]:
            sample.tokens.append(token)
            sample.logprobs.append(0.0)
            sample.ended = token in end_ids
            length = None if stops is None or sample.ended else stops[i](sample.tokens)
            if length is not None and length < limit:
                sample.stop_at(length)
                break
        policy.generated += len(sample.tokens) + sample.dropped
        samples.append(sample)
    return samples


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``TablePolicy`` speak in rollouts and searches."""
    monkeypatch.setattr(sampler_module, "generate", generate)


def make_player(
    of_text: Callable[[str], float] = greedy_is_right,
    *,
    make_env: Any = MAKE_ENV,
    indices: Any = None,
    seed: int = 7,
    **limits: Any,
) -> Player:
    return Player(
        make_env,
        TablePolicy(),  # type: ignore[arg-type]
        FORMAT,
        range(NUM_PROBLEMS) if indices is None else indices,
        Sampling(**{"max_new_tokens": 80, "batch_size": 64} | limits),
        seed=seed,
        value=TrueValue(of_text),  # type: ignore[arg-type]
    )


def solved(search: Search, player: Player) -> list[bool]:
    return [answer.episode.success for answer in answers(search, player)]


def answers(search: Search, player: Player) -> list[Answer]:
    found = search.answer(player)
    assert all(answer is not None for answer in found)
    return [answer for answer in found if answer is not None]
