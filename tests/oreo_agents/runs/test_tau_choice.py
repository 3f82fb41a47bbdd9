"""tau is chosen on dev tasks, and a row says so."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from oreo_agents.episodes.tasks import EnvSettings
from oreo_agents.evaluation.budget import Contender
from oreo_agents.evaluation.evaluate import DevSettings, EvaluateSettings, Item
from oreo_agents.evaluation.run_settings import row_settings
from oreo_agents.runs.scorebook import ScoreBook
from oreo_agents.runs.settings import RunSettings
from oreo_agents.search import BestOfN, Majority, ResampleActions, WeightedVote

SOLVED = {"best_of_n": {0.0: 3, 0.1: 3, 0.3: 2}, "weighted_vote": {0.0: 2, 0.1: 0, 0.3: 1}}
SEARCHES = {
    "best_of_n": BestOfN(tau=0.1, samples=2),
    "weighted_vote": WeightedVote(samples=2),
    "majority": Majority(samples=2),
}


class Told(ScoreBook):
    """Answers as many of four tasks as the table says."""

    def _answer(self, name, policy_path, value_path, split, indices, contenders, *, keep=True) -> None:
        (self.folder / name).mkdir(exist_ok=True)
        self.asked = [*getattr(self, "asked", []), (split, len(indices), [c.label for c in contenders], keep)]
        for contender in contenders:
            solved = SOLVED.get(contender.name.split("-tau-")[0].split("@")[0], {}).get(
                getattr(contender.search, "tau", None), 1
            )
            items = [Item(f"t{k}", k < solved, None, 5, "1") for k in range(len(indices))]
            lines = [json.dumps(dataclasses.asdict(item)) + "\n" for item in items]
            (self.folder / name / f"items-{split}-{contender.label}.jsonl").write_text("".join(lines))


def book(folder: Path, **evaluate: Any) -> Told:
    asked = {"searches": tuple(SEARCHES), "tau": (0.0, 0.1, 0.3), "dev": DevSettings(tasks=4)} | evaluate
    settings = RunSettings(
        env=EnvSettings(id="oreo/Arithmetic-v0"), searches=SEARCHES, evaluate=EvaluateSettings(**asked)
    )
    return Told(settings, folder, None)  # type: ignore[arg-type]


def chosen(book: Told, **more: Any) -> list[Contender]:
    contenders = [Contender(name, search, **more) for name, search in SEARCHES.items()]
    return book.choose_tau("oreo", "policy", "value", contenders, frozenset)


def test_the_tau_that_solves_most_dev_tasks_answers_the_others_and_of_equals_that_of_the_settings(tmp_path: Path):
    told = book(tmp_path)
    found = chosen(told)
    assert [getattr(contender.search, "tau", None) for contender in found] == [0.1, 0.0, None]
    assert [contender.label for contender in found] == list(SEARCHES), "the label is that of the search"
    [(split, tasks, labels, keep)] = told.asked
    assert (split, tasks, keep) == ("dev", 4, False)
    assert labels == [f"{name}-tau-{tau}" for name in ("best_of_n", "weighted_vote") for tau in ("0", "0.1", "0.3")]


def test_every_size_has_a_tau_of_its_own(tmp_path: Path):
    told = book(tmp_path)
    found = chosen(told, budget=100)
    assert [contender.label for contender in found] == [f"{name}@100" for name in SEARCHES]
    assert told.asked[0][2][0] == "best_of_n@100-tau-0"


def test_without_taus_nothing_is_asked(tmp_path: Path):
    told = book(tmp_path, tau=())
    assert [contender.search for contender in chosen(told)] == list(SEARCHES.values())
    assert not hasattr(told, "asked")


def test_a_row_says_which_tau_was_chosen_of_which_on_what(tmp_path: Path):
    told = book(tmp_path)
    found = chosen(told)
    told._answer("oreo", "policy", "value", "test", range(4), found)
    rows = told._rows("oreo", "run/oreo/value", "test", found, {})
    assert [(row.get("tau"), row.get("tau_of"), row.get("tau_on")) for row in rows] == [
        (0.1, [0.0, 0.1, 0.3], "4 tasks of dev"),
        (0.0, [0.0, 0.1, 0.3], "4 tasks of dev"),
        (None, None, None),
    ]


def test_runs_whose_dev_tasks_choose_differently_are_runs_of_one_thing(tmp_path: Path):
    """What is compared is the rule of choice; a tau of the settings tells rows apart, at a budget too."""

    def told(row: dict[str, Any]) -> Any:
        (tmp_path / "config.yaml").write_text("searches: {best_of_n: {tau: 0.2, samples: 8}}\nalgorithms: {oreo: {}}\n")
        values = row_settings(tmp_path, {"algo": "oreo", "search": "best_of_n", "seed": 0, **row}).values
        return values.get("searches.best_of_n.tau"), values.get("searches.best_of_n.samples")

    assert told({}) == (0.2, 8)
    assert told({"budget": 100}) == (0.2, None)
    choice = {"tau_of": [0.0, 0.1], "tau_on": "4 tasks of dev"}
    assert told({"tau": 0.1, **choice}) == told({"tau": 0.0, **choice}) == ("best of [0.0, 0.1] on 4 tasks of dev", 8)


@pytest.mark.parametrize("tau", [float("nan"), float("inf")])
def test_a_tau_that_is_no_number_is_refused_before_anything_is_done(tau: float):
    with pytest.raises(ValueError, match=r"evaluate.tau must be a list of numbers"):
        EvaluateSettings(tau=(0.1, tau))


def test_a_search_that_does_not_fit_is_refused_by_its_own_name(tmp_path: Path):
    told = book(tmp_path)
    games = [Contender("mine", ResampleActions())]
    with pytest.raises(ValueError, match=r"search mine plays turn by turn"):
        told.choose_tau("oreo", "policy", "value", games, frozenset)


def test_a_tau_below_0_and_a_tau_that_is_no_list_are_refused():
    with pytest.raises(ValueError, match=r"evaluate.tau must be a list of numbers of at least 0"):
        EvaluateSettings(tau=(0.1, -1.0))
    with pytest.raises(ValueError, match=r"EvaluateSettings.tau must be .*; a list of one is \[0.1\]"):
        EvaluateSettings(tau=0.1)  # type: ignore[arg-type]
