"""What four benchmarks compute, against numbers known beforehand: see the imports."""

import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import alfworld_forks as forks
import credit
import imitation
import rejection_gain as gain
import start_levels as levels
import value_refits as refits

from oreo_algos import Episode, EpisodeBuffer


def forked(chances: Any, rng: np.random.Generator, values: Any = None, turn: int = 0) -> forks.State:
    """A state with one action a chance, played out; the first is greedy and V is what is given, else 0."""
    actions = [
        {
            "draws": 5 - k,
            "before": 0.0 if values is None else float(values[k]),
            "after": float(chance),
            "log_policy": -float(k),
            "again": False,
            "won": (rng.random(forks.ROLLOUTS) < chance).astype(int).tolist(),
            "greedy_won": chance > 0.5,
        }
        for k, chance in enumerate(chances)
    ]
    return {"task": "a", "turn": turn, "known": turn > 5, "actions": actions}


def test_the_noise_of_played_out_games_is_taken_out_of_spreads():
    rng = np.random.default_rng(0)
    equal = [forked([0.5, 0.5, 0.5], rng) for _ in range(400)]
    assert forks.spreads(equal)["sd of the true advantage"] < 0.03
    drawn = rng.uniform(0.2, 0.8, size=(800, 3))
    errors = rng.normal(0, 0.1, size=drawn.shape)
    found = forks.spreads([forked(row, rng, row + error) for row, error in zip(drawn, errors, strict=True)])
    assert found["sd of the true advantage"] == pytest.approx(0.6 / 12**0.5, abs=0.02)
    assert found["V before: rms error of the advantage"] == pytest.approx(0.1, abs=0.02)
    assert found["V after: rms error of the advantage"] < 0.04
    assert found["V after: correlation with the true one"] == pytest.approx(1, abs=0.03)


def test_an_action_matters_as_often_as_chance_has_it_where_none_does():
    rng = np.random.default_rng(1)
    found = [forks.matters(forked([0.5, 0.5], rng), rng) for _ in range(200)]
    assert np.mean(found) < 0.1
    assert forks.matters(forked([0.0, 1.0], rng), rng)
    assert not forks.matters(forked([0.4], rng), rng)


def test_an_oracle_that_sees_half_of_the_games_gains_nothing_by_chance():
    rng = np.random.default_rng(2)
    assert abs(np.mean([forks.oracle(forked([0.5, 0.5, 0.5], rng)) for _ in range(2000)])) < 0.01
    assert np.mean([forks.oracle(forked([0.1, 0.9], rng)) for _ in range(100)]) == pytest.approx(0.8, abs=0.05)


def test_rules_take_what_they_say_and_the_report_is_written():
    rng = np.random.default_rng(3)
    states = [forked([0.2, 0.9], rng, [0.9, 0.2], turn=turn) for turn in range(10)]
    taken = {name: int(rule(states[0]).argmax()) for name, rule in forks.rules().items()}
    assert taken["V after + 0 log pi"] == 1
    assert taken["V before + 0 log pi"] == taken["majority of 5"] == taken["log pi alone"] == 0
    page = forks.report(states, "a run")
    assert "| states | 10 | 5 | 5 |" in page and "gain of the oracle" in page


@pytest.mark.parametrize("name", ["usual", "events"])
def test_chances_are_those_of_all_that_may_happen(name: str):
    setting = credit.SETTINGS[name]
    env = credit.world_of(10, setting, "train")
    problem, [rates] = env.problem(3), credit.solvers_of(env, setting)
    total = 0.0
    box = problem.box or 0
    events = ((-box, setting.event / 2), (0, 1 - setting.event), (box, setting.event / 2))
    for way in product((True, False), repeat=len(problem.verbs)):
        for happened in product(events, repeat=len(way)):
            weight, at = 1.0, problem.start
            for verb, amount, right, (shift, chance) in zip(problem.verbs, problem.amounts, way, happened, strict=True):
                weight *= (rates[verb] if right else 1 - rates[verb]) * chance
                at += (env.world.right if right else env.world.tempting)[verb].change(amount) + shift
            total += weight * (at // box == problem.answer)
    assert credit.chances(problem, rates, setting)[0, problem.start + credit.MIDDLE] == pytest.approx(total)


@pytest.mark.parametrize("name", list(credit.SETTINGS))
def test_an_exact_value_is_calibrated_and_means_are_those_of_their_samples(name: str):
    setting = credit.SETTINGS[name]
    drawn = credit.draw(credit.world_of(10, setting, "train"), setting, 40, 50, seed=0)
    data, start = drawn.data, drawn.data.reference
    exact = credit.exact(drawn, start, beta=0.03)
    assert exact[:, 0].mean().item() == pytest.approx(data.success.double().mean().item(), abs=0.04)
    last = torch.arange(len(exact)), data.mask.sum(dim=1) - 1
    gap = (exact[last] - data.success.double()).abs().mean()
    assert gap < (exact[:, 0] - data.success.double()).abs().mean()
    first = data.problem == 3
    assert credit.question(drawn, start, 0.03)[first][:, 0].unique().item() == pytest.approx(
        data.success[first].double().mean().item()
    )
    assert credit.state(drawn, start, 0.03)[first][:, 0].unique().item() == pytest.approx(
        data.success[first].double().mean().item()
    )


def answer(reward: float, task: str) -> Episode:
    return Episode(
        tokens=np.array([1, 2, 3], np.int32),
        step_id=np.array([-1, 0, 0], np.int32),
        rewards=np.array([reward], np.float32),
        terminated=True,
        truncated=False,
        task_id=task,
        env_id="x",
        info={"success": reward > 0},
    )


def test_all_errors_are_kept_with_as_many_right_ones_of_their_questions():
    rows = [answer(float(k % 4 > 0), "mixed") for k in range(12)] + [answer(1.0, "easy") for _ in range(12)]
    kept = refits.errors_of(EpisodeBuffer(rows))
    assert [kept.columns.success.sum(), len(kept)] == [3, 6]
    assert {episode.task_id for episode in kept} == {"mixed"}


def test_losses_of_values_stand_still_where_they_should():
    mask, rewards = torch.ones(2, 3, dtype=torch.bool), torch.tensor([[0.0, 0, 1], [0, 0, 0]])
    right = torch.tensor([[1.0], [0.0]]).expand(2, 3)
    assert refits.squares(right, rewards, mask).item() == refits.lambda_returns(right, rewards, mask).item() == 0
    sure = (right - 0.5) * 40
    assert refits.cross_entropy(sure, rewards, mask).item() == pytest.approx(0, abs=1e-6)
    assert refits.cross_entropy(-sure, rewards, mask).item() == pytest.approx(20)


@pytest.mark.parametrize("arm", gain.RELABELLED)
def test_shuffled_labels_keep_how_many_and_within_games_of_which(arm: str):
    rng = np.random.default_rng(5)
    won, tasks = rng.random(400) < 0.5, np.repeat(np.arange(100), 4)[rng.permutation(400)]
    found = np.array(gain.labels(arm, won.tolist(), tasks.tolist(), rng))
    assert found.sum() == (400 if arm == "all" else won.sum())
    by_task = [(found[tasks == task].sum(), won[tasks == task].sum()) for task in range(100)]
    assert all(own == other for own, other in by_task) == (arm == "within")
    assert (found == won).mean() < 0.9


def test_gains_are_shared_out_over_mixed_tasks_and_over_what_is_missing():
    rows = [
        {"start": 40.0, "mixed": 0.5, "oreo": 70.0, "rejection": 40.0, "kto": 34.0},
        {"start": 60.0, "mixed": 1.0, "oreo": 80.0, "rejection": 60.0, "kto": 54.0},
    ]
    found = [[cell.split(" [")[0] for cell in line.strip("| ").split(" | ")] for line in levels.lines("50", rows)]
    assert found[0] == ["50", "2", "50.0", "75", "oreo", "+25.0", "+40", "50"]
    assert found[1][-4:] == ["rejection", "+0.0", "+0", "0"]
    assert found[2][-4:] == ["kto", "-6.0", "-9", "-12"]


def test_better_demonstrators_make_better_starts_of_fewer_mixed_tasks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(levels, "PROBLEMS", 60)
    monkeypatch.setattr(levels, "LOSSES", {})
    weak, strong = levels.descended("50", 10), levels.descended("85", 10)
    assert weak["start"] + 10 < strong["start"] and weak["mixed"] > strong["mixed"] + 0.1


def test_likelihoods_of_solutions_are_means_over_what_is_imitated():
    data = imitation.draw(imitation.environment(12, "boxes", "train"), 8, 4, 12)
    policy = data.reference
    surprise = -data.logprobs(policy)
    assert imitation.likelihood(data, shuffled=False)(policy).item() == pytest.approx(surprise.sum() / data.mask.sum())
    own, verbs = surprise.sum(dim=1), data.mask.sum(dim=1)
    wins = (own / verbs * data.success).mean().item()
    plain, found = (imitation.oreo_and_wins(data, weight)(policy).item() for weight in (0.0, 0.5))
    assert found - plain == pytest.approx(0.5 * wins)
    assert 0 < data.success.sum() < len(data.success)
