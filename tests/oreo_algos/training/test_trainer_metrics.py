"""The metrics of a run, and that it learns."""

import copy
import math

import numpy as np
import pytest
import torch
from tabular import TablePolicy, TableValue
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_runs import run

from oreo_algos import EpisodeBuffer, Models
from oreo_algos.algos import Dpo, Kto, Oreo, RejectionSampling, Sft

# --- metrics


def test_evaluate_is_called_every_so_many_steps_and_its_metrics_are_logged(buffer, tmp_path):
    calls = []

    def evaluate(step):
        calls.append(step)
        return {"eval/arithmetic/dev/accuracy": np.float32(step / 8)}

    _, metrics, _ = run(Sft(batch_size=4, epochs=2), buffer, tmp_path, evaluate=evaluate, evaluate_every=3)
    assert calls == [3, 6, 8]
    found = {row["step"]: row.get("eval/arithmetic/dev/accuracy") for row in metrics}
    assert found == {step: step / 8 if step in calls else None for step in range(1, 9)}


COMMON = {"loss", "grad_norm", "learning_rate", "epoch", "num_tokens", "entropy"}
PREFERENCES = {"rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected"}
VALUES = {
    *("values/mean", "values/std", "values/min", "values/max"),
    *("values/start", "values/terminal_pos", "values/terminal_neg"),
    *("bellman/residual_abs", "bellman/explained_variance", "losses/value", "value_grad_norm", "value_learning_rate"),
}
RATIOS = {"log_ratio/pos_median", "log_ratio/neg_median"}
NAMES = {
    "sft": (Sft(), COMMON),
    "rejection": (RejectionSampling(), COMMON),
    "dpo": (Dpo(), COMMON | PREFERENCES | {"rewards/margins", "rewards/accuracies"}),
    "kto": (Kto(), COMMON | PREFERENCES | {"kl", "rewards/reference_point"}),
    "oreo": (
        Oreo(),
        COMMON | VALUES | {"losses/policy", "kl", "temperature/effective", *RATIOS},
    ),
    "oreo warm-up": (Oreo(value_warmup_steps=1), {"loss", "epoch", "num_tokens"} | VALUES),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_metrics_of_the_design_are_in_the_file_and_in_tensorboard(name, single_turn, tmp_path):
    algorithm, expected = NAMES[name]
    _, metrics, result = run(algorithm, single_turn, tmp_path)
    row = metrics[0]
    assert set(row) == {"step"} | {f"train/{metric}" for metric in expected}
    events = EventAccumulator(str(tmp_path)).Reload()
    for metric in expected:
        event = events.Scalars(f"train/{metric}")[0]
        assert (event.step, event.value) == (1, pytest.approx(row[f"train/{metric}"], rel=1e-6))
    assert result.metrics == {key: value for key, value in metrics[-1].items() if key != "step"}


# --- it learns


def test_oreo_lowers_the_loss_and_finds_the_soft_value_of_a_two_step_problem(make_episode, tmp_path):
    """State 0 leads to 1 or 2, each to 3 or 4; the reward depends on both choices. V* is known in closed form."""
    beta = 0.5
    rewards = {(1, 3): 1.0, (1, 4): 0.0, (2, 3): 0.2, (2, 4): 0.6}
    reference = {0: {1: 0.3, 2: 0.7}, 1: {3: 0.2, 4: 0.8}, 2: {3: 0.5, 4: 0.5}}
    soft = {
        state: beta * math.log(sum(p * math.exp(rewards[state, b] / beta) for b, p in reference[state].items()))
        for state in (1, 2)
    }
    soft[0] = beta * math.log(sum(p * math.exp(soft[state] / beta) for state, p in reference[0].items()))
    logits = torch.full((5, 5), -30.0)  # never chosen
    for state, row in reference.items():
        for choice, p in row.items():
            logits[state, choice] = math.log(p)
    policy = TablePolicy(logits)
    models = Models(policy, copy.deepcopy(policy), TableValue(5), policy_is_reference=True)
    buffer = EpisodeBuffer(
        make_episode([-1, 0, 1], [0.0, reward], tokens=[0, *choices]) for choices, reward in rewards.items()
    )
    algorithm = Oreo(policy_lr=0.1, value_lr=0.1, beta=beta, alpha=0.0, batch_size=4, epochs=180, value_warmup_steps=20)
    _, metrics, _ = run(algorithm, buffer, tmp_path, models)
    assert metrics[-1]["train/losses/value"] < 1e-3 * metrics[0]["train/losses/value"]
    assert metrics[-1]["train/loss"] < 0.01 * metrics[20]["train/loss"]
    assert models.value.table[:3].tolist() == pytest.approx([soft[0], soft[1], soft[2]], abs=0.02)
    learned = models.policy.table.softmax(dim=-1)
    for (a, b), reward in rewards.items():
        optimal = reference[a][b] * math.exp((reward - soft[a]) / beta)
        assert learned[a, b].item() == pytest.approx(optimal, abs=0.03)
