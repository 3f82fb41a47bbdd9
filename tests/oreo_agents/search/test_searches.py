"""Which of several samples a search chooses."""

from pathlib import Path

import numpy as np
import pytest
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf
from tiny_models import make_episode

from oreo_agents.runs.cli import config_folder
from oreo_agents.search import Admissible, BestOfN, Greedy, Majority, Sampled, SampleSearch, WeightedVote
from oreo_agents.search.samples import Drawn
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
    assert Majority().choose(answers(*given), NO_VALUES, given) == chosen


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
    assert BestOfN().choose(finished(*flags), np.array(values), [None] * len(flags)) == chosen


@pytest.mark.parametrize(
    ("given", "values", "chosen"),
    [
        (["3", "4", "4"], [0.9, 0.4, 0.3], 0),  # .9 against .7
        (["3", "4", "4"], [0.6, 0.3, 0.4], 2),  # .6 against .7; of those who say so the one with the highest V
        (["3", "4", "4"], [0.1, -5.0, 0.05], 0),  # a V below 0 takes no weight away: .1 against .05
        (["3", "4", "4", "5"], [-0.2, -0.3, -0.1, -0.4], 2),  # nobody has weight: the highest V
        ([None, "4", "5"], [9.0, 0.2, 0.1], 1),  # no answer, no vote
        ([None, None], [0.1, 0.2], 1),
    ],
)
def test_a_weighted_vote_adds_what_v_says(given: list[str | None], values: list[float], chosen: int):
    assert WeightedVote(samples=len(given)).choose(answers(*given), np.array(values), given) == chosen


def test_samples_that_were_cut_off_have_no_weight():
    cut = make_episode([1], [2], terminated=False, truncated=True, info={"answer": "3"})
    assert WeightedVote().choose([cut, *answers("4")], np.array([0.9, 0.1]), ["3", "4"]) == 1
    assert WeightedVote().choose([cut, cut], np.array([0.1, 0.9]), ["3", "3"]) == 1
    assert WeightedVote().choose([cut, *answers(None)], np.array([0.9, 0.1]), ["3", None]) == 1


@pytest.mark.parametrize("search", [Majority(), BestOfN(temperature=0.7), WeightedVote(samples=2)])
def test_the_size_of_a_vote_is_its_number_of_samples(search: SampleSearch):
    sized = search.sized(5)
    assert (sized.samples, sized.size, sized.temperature) == (5, "5", search.temperature)
    assert type(sized) is type(search)


@pytest.mark.parametrize("search", [Greedy(), Admissible(), Sampled()])
def test_a_single_sample_has_no_size(search: SampleSearch):
    assert search.size is None and search.sized(5) == search


def test_single_samples_leave_no_choice():
    assert Greedy().choose(answers("3"), NO_VALUES, ["3"]) == 0
    assert Sampled().choose(answers("3"), NO_VALUES, ["3"]) == 0
    assert (Greedy().samples, Greedy().temperature) == (1, 0.0)
    assert (Sampled().samples, Sampled().temperature) == (1, 1.0)


OF_THEIR_OWN = [path for path in sorted((config_folder() / "search").glob("*.yaml")) if "_target_" in path.read_text()]
"""The files that are not another one with other settings."""


@pytest.mark.parametrize("path", OF_THEIR_OWN, ids=lambda path: path.stem)
def test_a_search_made_in_python_has_the_defaults_of_its_settings_file(path: Path):
    settings = OmegaConf.load(path)
    assert instantiate(settings) == get_class(settings._target_)()


def test_only_best_of_n_and_the_weighted_vote_read_the_value():
    searches = (Greedy, Sampled, Majority, BestOfN, WeightedVote)
    assert [search.needs_value for search in searches] == [False, False, False, True, True]


@pytest.mark.parametrize("index", [-1, 2, None])
def test_a_search_that_chooses_none_of_the_answers_is_told_so(index: int | None):
    class Lost(SampleSearch):
        def choose(self, episodes, values, answers):
            return index

    with pytest.raises(ValueError, match=f"Lost.choose returned {index}; it must return the index of one of the 2"):
        Lost()._answer(Drawn(answers("3", "4"), NO_VALUES[:2], ["3", "4"], NO_VALUES[:2], np.random.default_rng(0)), [])


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        Majority(samples=0)
    with pytest.raises(ValueError, match="temperature must be > 0 to draw 8 different samples, got 0"):
        BestOfN(temperature=0)
    with pytest.raises(ValueError, match="got -1"):
        Sampled(temperature=-1)
