"""Faults put into training runs and buffers: each is named once, and healthy ones are left in peace."""

import re
from dataclasses import dataclass

import pytest
import torch
from tabular import Scorer, tiny_models
from test_warning_log import texts
from tree_mdp import grow

from oreo_algos import EpisodeBuffer, Models, TrainerConfig, train
from oreo_algos.algos import Dpo, Kto, Oreo
from oreo_algos.training.doctor import Thresholds, TrainingDoctor, examine_outcomes
from oreo_algos.training.warning_log import read_warnings


def names(findings):
    return [finding.name for finding in findings]


# --- whole training runs


class Displacing(Scorer):
    """One number u; the logits of the three tokens, in any state, are multiples of it."""

    def __init__(self, multiples: tuple[float, float, float]) -> None:
        """Start uniform."""
        super().__init__()
        self.u = torch.nn.Parameter(torch.zeros(()))
        self.multiples = torch.tensor(multiples)

    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        return (self.u * self.multiples).expand(*tokens.shape, 3)


def displacing_models(multiples):
    return Models(Displacing(multiples), Displacing(multiples), policy_is_reference=True)


@pytest.fixture
def pairs(make_episode):
    """Three tasks, each with a chosen answer of ones and a rejected one of twos."""
    return EpisodeBuffer(
        make_episode(
            [-1, 0, 0, 0, 0],
            [reward],
            tokens=[0, *[token] * 4],
            task_id=f"task-{task}",
            info={"success": bool(reward)},
        )
        for task in range(3)
        for token, reward in ((1, 1.0), (2, 0.0))
    )


@dataclass(frozen=True)
class Case:
    """What to train on what, and in how many steps the fault shows."""

    algorithm: object
    models: object
    buffer: str
    steps: int


TREE = grow(0, roots=1)
# Token 2 loses against token 1 only where u falls, and then token 1 loses against token 0.
SHARED, APART = (0.0, 1.0, 3.0), (0.0, 1.0, -1.0)
FAULTS = {
    "flat_value": Case(Oreo(value_lr=1e-12, batch_size=999, epochs=60, beta=TREE.beta), TREE.models, "tree", 60),
    "kl_blow_up": Case(
        Oreo(policy_lr=1.0, batch_size=14, epochs=40, alpha=1e-3), lambda: tiny_models(moved=False), "random", 40
    ),
    "alpha_sets_temperature": Case(
        Oreo(policy_lr=1e-3, batch_size=14, epochs=20), lambda: tiny_models(moved=False), "random", 20
    ),
    "chosen_logprob_collapse": Case(
        Dpo(policy_lr=0.5, batch_size=3, epochs=60), lambda: displacing_models(SHARED), "pairs", 60
    ),
}
KTO_FAULT = Case(Kto(policy_lr=0.5, batch_size=6, epochs=60), lambda: displacing_models(SHARED), "pairs", 60)
HEALTHY = {
    f"flat_value at {granularity} level": Case(
        Oreo(value_lr=0.05, batch_size=999, epochs=60, beta=TREE.beta, granularity=granularity), TREE.models, "tree", 60
    )
    for granularity in ("token", "step", "response")
} | {
    "kl_blow_up": Case(
        Oreo(policy_lr=1e-3, batch_size=14, epochs=40, alpha=1e-3), lambda: tiny_models(moved=False), "random", 40
    ),
    "alpha_sets_temperature, what it advises": Case(
        Oreo(policy_lr=1e-3, batch_size=14, epochs=20, alpha=0.0036), lambda: tiny_models(moved=False), "random", 20
    ),
    "chosen_logprob_collapse": Case(
        Dpo(policy_lr=0.5, batch_size=3, epochs=60), lambda: displacing_models(APART), "pairs", 60
    ),
}


@pytest.fixture
def train_case(tmp_path, pairs, random_episodes):
    """Train a case in the test's folder, again and again if asked to."""
    buffers = {"tree": TREE.buffer(), "random": EpisodeBuffer(random_episodes(14)), "pairs": pairs}

    def run(case, stop_at=None, checkpoint_every=1000):
        def stop(step):
            if step == stop_at:
                raise KeyboardInterrupt
            return {}

        config = TrainerConfig(checkpoint_every=checkpoint_every, evaluate_every=1, doctor=Thresholds(value_updates=40))
        return train(case.algorithm, case.models(), buffers[case.buffer], config, tmp_path, evaluate=stop)

    return run


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_training_is_named_once_also_when_the_run_is_killed_and_goes_on(name, train_case, tmp_path, caplog):
    case = FAULTS[name]
    with pytest.raises(KeyboardInterrupt):
        train_case(case, stop_at=case.steps - 5, checkpoint_every=case.steps // 10 * 8)
    assert names(read_warnings(tmp_path)) == [name]
    result = train_case(case)
    assert result.steps == case.steps
    [finding] = read_warnings(tmp_path)
    assert [record.getMessage() for record in caplog.records] == [f"doctor: {tmp_path}: {name}: {finding.text}"]
    assert texts(tmp_path) == {f"doctor/{name}": [(0, f"```text\n{finding.text}\n```")]}


def test_a_fault_that_needs_the_steps_before_a_kill_is_still_seen(train_case, tmp_path):
    """V is judged after 40 updates, of which the run that continues makes only the last."""
    with pytest.raises(KeyboardInterrupt):
        train_case(FAULTS["flat_value"], stop_at=37, checkpoint_every=30)
    assert read_warnings(tmp_path) == []
    with pytest.raises(KeyboardInterrupt):
        train_case(FAULTS["flat_value"], stop_at=42)
    assert names(read_warnings(tmp_path)) == ["flat_value"]


def test_kto_lowers_what_it_was_to_raise_and_is_told(train_case, tmp_path):
    train_case(KTO_FAULT)
    assert names(read_warnings(tmp_path)) == ["chosen_logprob_collapse"]


@pytest.mark.parametrize("name", HEALTHY)
def test_its_healthy_twin_is_left_in_peace(name, train_case, tmp_path, caplog):
    train_case(HEALTHY[name])
    assert read_warnings(tmp_path) == [] and not caplog.records


# --- series of metrics


def watch(name, values, **thresholds):
    """Names of the warnings after each value of one metric."""
    doctor = TrainingDoctor(Thresholds(**thresholds), reward_spread=0.5)
    return [names(doctor.observe({f"train/{name}": value})) for value in values]


def test_spikes_of_the_kl_are_no_blow_up():
    assert not any(watch("kl", [0.05, 0.05, 9.0] * 20))


def test_a_lasting_kl_is_named_once_the_window_has_seen_enough_of_it():
    seen = watch("kl", [0.9] * 10 + [1.2] * 10)
    assert seen.index(["kl_blow_up"]) == 14  # the fifth of the ten


def test_a_kl_that_grows_steeply_is_named_below_the_limit_and_a_steady_one_is_not():
    assert watch("kl", [0.01] * 10 + [0.5] * 10)[-1] == ["kl_blow_up"]
    assert not any(watch("kl", [0.01 * step for step in range(90)]))
    assert not any(watch("kl", [1e-6] * 10 + [0.2] * 10))  # steep, and still small


def test_values_that_are_not_finite_or_not_there_are_passed_over():
    assert not any(watch("kl", [None, float("nan"), float("inf")] * 20))
    assert TrainingDoctor(Thresholds(), 0.5).observe({}) == []


def test_the_spread_of_v_is_judged_against_that_of_the_returns_and_only_after_enough_updates():
    assert watch("values/std", [0.0] * 99) == [[]] * 99
    assert watch("values/std", [0.0] * 100)[-1] == ["flat_value"]
    assert not any(watch("values/std", [0.0] * 50 + [0.006] * 60))
    still = TrainingDoctor(Thresholds(value_updates=1, window=1), reward_spread=0.0)
    assert still.observe({"train/values/std": 0.0}) == []  # equal returns have a warning of their own


def test_log_probabilities_that_fall_while_margins_shrink_are_another_matter():
    doctor = TrainingDoctor(Thresholds(), 0.5)
    for step in range(40):
        metrics = {"logps/chosen": -5.0 - step, "rewards/chosen": -step / 10, "rewards/rejected": 0.0}
        assert doctor.observe({f"train/{name}": value for name, value in metrics.items()}) == []


# --- the temperature


def warned_of_temperature(now, *, alpha=0.01, controlled=False, beta=0.03, steps=10):
    """What is said after steps with this effective temperature."""
    doctor = TrainingDoctor(Thresholds(), 0.5, beta=beta, alpha=alpha)
    metrics = {"train/temperature/effective": now} | ({"train/alpha": alpha} if controlled else {})
    found = [doctor.observe(metrics) for _ in range(steps)][-1]
    assert names(found) in ([], ["alpha_sets_temperature"])
    return found[0].text if found else None


@pytest.mark.parametrize(
    ("alpha", "tokens", "advice"),
    [(0.01, 1, "set alpha=0.0036, or keep alpha and set beta=0.05;"), (0.3, 36, "set alpha=0.12, or keep alpha")],
)
def test_what_it_advises_of_alpha_and_beta_is_enough(alpha, tokens, advice):
    def temperature(alpha, beta):
        return beta + alpha / (2 * beta * tokens)

    said = warned_of_temperature(temperature(alpha, 0.03), alpha=alpha)
    assert advice in said and "beta=0.03" in said
    numbers = dict(re.findall(r"set (alpha|beta)=([\d.]+\d)", said))
    for name, number in numbers.items():
        chosen = {"alpha": alpha, "beta": 0.03} | {name: float(number)}
        assert warned_of_temperature(temperature(**chosen), **chosen) is None


def test_the_temperature_is_judged_by_beta_and_only_after_a_window():
    assert warned_of_temperature(0.09) is None and warned_of_temperature(0.0901)
    assert warned_of_temperature(0.2, steps=9) is None
    assert warned_of_temperature(0.2, beta=0.07) is None
    assert warned_of_temperature(0.2, beta=None) is None  # an algorithm of one's own, without such a number


def test_where_alpha_is_adapted_the_target_is_named():
    assert "raise kl_target" in warned_of_temperature(0.2, controlled=True)


# --- episodes


def outcomes(make_episode, *tasks):
    """A buffer whose tasks have the given rewards."""
    return EpisodeBuffer(
        make_episode([-1, 0], [float(reward)], task_id=f"task-{number}", info={"success": reward > 0})
        for number, rewards in enumerate(tasks)
        for reward in rewards
    )


@pytest.mark.parametrize("reward", [0, 1])
def test_rewards_that_are_all_equal_are_named_and_not_their_consequence_too(reward, make_episode):
    findings = examine_outcomes(outcomes(make_episode, [reward] * 3, [reward] * 3))
    assert names(findings) == ["equal_rewards"]
    assert f"all 6 episodes have the return {reward}" in findings[0].text


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        (([1, 1], [0, 0], [0]), ["no_mixed_groups"]),
        (([1, 1], [0, 1]), []),
        (([1], [0], [0]), []),  # one sample a task, on purpose
    ],
)
def test_groups_without_both_outcomes_are_named_where_there_are_groups(tasks, expected, make_episode):
    assert names(examine_outcomes(outcomes(make_episode, *tasks))) == expected


def test_an_empty_buffer_is_somebody_elses_error():
    assert examine_outcomes(EpisodeBuffer([])) == []


@pytest.mark.parametrize("value", [10.5, True, "10"])
def test_a_window_that_is_no_whole_number_of_steps_is_refused(value):
    with pytest.raises(ValueError, match=f"doctor.window must be an integer, got {value!r}"):
        Thresholds(window=value)


def test_a_threshold_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match=r"doctor\.kl must be a number, got 'high'"):
        Thresholds(kl="high")
    assert Thresholds(kl=2).kl == 2  # a whole number is one, too


@pytest.mark.parametrize("name", ["truncated", "kl", "window"])
def test_a_threshold_that_nothing_stays_below_is_refused(name):
    with pytest.raises(ValueError, match=rf"doctor.{name} must be > 0, got 0"):
        Thresholds(**{name: 0})
