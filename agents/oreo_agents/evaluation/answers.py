"""Judged answers of an evaluation, kept as episodes to be read: which ones, and what is written down with each.

Knows: answers of searches, buffers. Does not know: files of items, how answers are shown (``kept``, ``answer_view``).

``answers-<split>-<label>/`` holds one episode a task, ``candidates-<split>-<label>/`` the whole answers that a search
chose from, as text alone. ``info`` of an episode has beside what the environment said: ``reference``, the answer that
it was judged by, where there is one; ``votes`` and ``chosen_from``, how many of how many candidates gave that answer;
``value``, V of it where a search read it; ``score``, the number that it was chosen by; ``turns``, as JSON, of each turn
of a game the actions to choose from as ``[text, votes, V, score]``. Of a candidate: ``candidate``, its number, and
``chosen``.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from oreo_agents.evaluation.kept import ANSWERS, CANDIDATES, SOURCE
from oreo_agents.search import Answer
from oreo_agents.search.base import Candidate, Proposal
from oreo_algos import Episode, EpisodeBuffer
from oreo_algos.episode import JSONScalar
from oreo_algos.storage.atomic import remove


def kept_places(tasks: int, keep: int | str) -> list[int]:
    """Return the places, among so many tasks, of those whose answers are kept: the same ones whatever was answered.

    Data sets are sorted by subject: a part is drawn and not cut off.
    """
    if keep == "all" or (isinstance(keep, int) and keep >= tasks):
        return list(range(tasks))
    count = 0 if keep == "none" else int(keep)
    return sorted(np.random.default_rng(0).permutation(tasks)[:count].tolist())


def keep_answers(
    folder: Path,
    name: str,
    answers: Sequence[Answer | None],
    env: gym.Env[str, str],
    indices: Sequence[int],
    *,
    tokenizer_fingerprint: str,
    provenance: Mapping[str, Any],
) -> int:
    """Write the buffers of one search on one split, in place of earlier ones; none where there is nothing to keep.

    Args:
        folder: of the algorithm.
        name: what the buffers' names end with, ``<split>-<label>``.
        answers: those to keep; None: the task could not be begun.
        env: of the split, to ask for references.
        indices: of their tasks.
        tokenizer_fingerprint: of what encoded them.
        provenance: what tells where they come from.

    Returns:
        How many answers were kept.
    """
    for kind in (ANSWERS, CANDIDATES):
        remove(folder / f"{kind}-{name}")
    facts = {"source": SOURCE, **provenance}
    ask = getattr(env.unwrapped, "reference", lambda index: None)
    given = [(answer, ask(index)) for answer, index in zip(answers, indices, strict=True) if answer is not None]
    others = [
        _candidate(answer, number, reference) for answer, reference in given for number in range(len(answer.candidates))
    ]
    # The answers last: who finds them finds the candidates too.
    if others:
        EpisodeBuffer(others, provenance=facts).save(folder / f"{CANDIDATES}-{name}")
    if given:
        kept = EpisodeBuffer(
            [_annotated(answer, reference) for answer, reference in given],
            tokenizer_fingerprint=tokenizer_fingerprint,
            provenance=facts,
        )
        kept.save(folder / f"{ANSWERS}-{name}")
    return len(given)


def _annotated(answer: Answer, reference: str | None) -> Episode:
    info: dict[str, JSONScalar] = {**answer.episode.info, "tokens_of_all": answer.tokens}
    if reference:
        info["reference"] = reference
    if answer.candidates:
        [chosen] = [candidate for candidate in answer.candidates if candidate.episode is answer.episode]
        votes = sum(candidate.answer == chosen.answer for candidate in answer.candidates)
        info |= {"votes": votes, "chosen_from": len(answer.candidates), **_numbers(chosen)}
    if answer.turns:
        info["turns"] = json.dumps([[_proposed(each) for each in turn] for turn in answer.turns])
    return dataclasses.replace(answer.episode, info=info)


def _candidate(answer: Answer, number: int, reference: str | None) -> Episode:
    candidate = answer.candidates[number]
    info: dict[str, JSONScalar] = {**candidate.episode.info, **_numbers(candidate), "candidate": number}
    info["chosen"] = candidate.episode is answer.episode
    if reference:
        info["reference"] = reference
    nothing = np.zeros(0, np.int32)
    return dataclasses.replace(
        candidate.episode, tokens=nothing, step_id=nothing, loss_mask=None, behavior_logprobs=None, info=info
    )


def _proposed(one: Proposal) -> list[str | float | None]:
    return [one.text, one.votes, _finite(one.value), _finite(one.score)]


def _numbers(candidate: Candidate) -> dict[str, JSONScalar]:
    """Return those that there are."""
    told = {"value": _finite(candidate.value), "score": _finite(candidate.score)}
    return {name: number for name, number in told.items() if number is not None}


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
