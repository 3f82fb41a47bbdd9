"""Which of several samples a search chooses."""

import numpy as np
import pytest
from tiny_models import make_episode

from oreo_agents.search import BestOfN, Greedy, Majority, Sampled
from oreo_algos.episode import Episode

NO_VALUES = np.full(9, np.nan)


def answers(*texts: str | None) -> list[Episode]:
    return [make_episode([1], [2], info={"answer": text}) for text in texts]


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        (["3", "4", "4"], 1),
        (["3", "4", "4", "3"], 0),  # a tie: the first to be given
        (["7", "3", "4", "4", "3"], 1),
        ([None, None, None, "5"], 3),  # no answer, no vote
        ([None, None], 0),
        (["", "x", ""], 0),  # an empty answer is an answer
    ],
)
def test_majority_takes_the_commonest_answer(given: list[str | None], chosen: int):
    assert Majority().choose(answers(*given), NO_VALUES) == chosen


def finished(*flags: bool) -> list[Episode]:
    return [make_episode([1], [2], terminated=flag, truncated=not flag) for flag in flags]


@pytest.mark.parametrize(
    ("flags", "values", "chosen"),
    [
        ([True, True, True], [0.1, 0.9, 0.5], 1),
        ([True, False, True], [0.1, 0.9, 0.5], 2),  # the best one was cut off
        ([False, False], [-2.0, -1.0], 1),
        ([True, False], [-5.0, 3.0], 0),
        ([True, True], [0.5, 0.5], 0),
    ],
)
def test_best_of_n_takes_the_highest_value_among_finished_samples(flags, values, chosen):
    assert BestOfN().choose(finished(*flags), np.array(values)) == chosen


def test_single_samples_leave_no_choice():
    assert Greedy().choose(answers("3"), NO_VALUES) == 0
    assert Sampled().choose(answers("3"), NO_VALUES) == 0
    assert (Greedy().samples, Greedy().temperature) == (1, 0.0)
    assert (Sampled().samples, Sampled().temperature) == (1, 1.0)


def test_only_best_of_n_reads_the_value():
    assert [search.needs_value for search in (Greedy, Sampled, Majority, BestOfN)] == [False, False, False, True]


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        Majority(samples=0)
    with pytest.raises(ValueError, match="temperature must be > 0 to draw 8 different samples, got 0"):
        BestOfN(temperature=0)
    with pytest.raises(ValueError, match="got -1"):
        Sampled(temperature=-1)
