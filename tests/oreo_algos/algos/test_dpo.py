"""DPO through the algorithm class, against numbers worked out for each pair alone."""

import math

import numpy as np
import pytest
from tabular import tiny_models

from oreo_algos.algos import Dpo
from oreo_algos.batch import collate
from oreo_algos.storage.buffer import EpisodeBuffer
from oreo_algos.training.micro_batches import episodes_of

BETA = 0.7


@pytest.fixture
def pairs(random_episodes):
    """Ragged, with observations in the middle; the two of a pair differ in length."""
    episodes = random_episodes(10, seed=3)
    return list(zip(episodes[:5], episodes[5:], strict=True))


def logprob(policy, episode):
    return policy.score(collate([episode])).logprobs.sum().item()


def test_loss_and_metrics_equal_hand_computed_ones(pairs):
    models = tiny_models()
    algorithm = Dpo(beta=BETA)
    rows = []
    for pair in pairs:
        own, ref = ([logprob(network, episode) for episode in pair] for network in (models.policy, models.reference))
        chosen, rejected = BETA * (own[0] - ref[0]), BETA * (own[1] - ref[1])
        loss = math.log(1 + math.exp(rejected - chosen))
        rows.append((loss, chosen, rejected, chosen - rejected, float(chosen > rejected), *own))
    names = ["loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"]
    names += ["logps/chosen", "logps/rejected"]
    expected = dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))
    assert 0 < expected["rewards/accuracies"] < 1
    scored = [models.policy.score(collate([chosen])).entropy.sum().item() for chosen, _ in pairs]
    expected["entropy"] = sum(scored) / sum(chosen.num_action_tokens for chosen, _ in pairs)
    losses = algorithm.losses(collate(episodes_of(pairs)), models)
    found = {"loss": losses.terms["policy"].item(), **losses.metrics}
    assert found == pytest.approx(expected, rel=1e-6)


def test_at_a_reference_scored_with_the_batch_the_loss_is_log_2_and_no_pair_counts_as_right(pairs):
    losses = Dpo().losses(collate(episodes_of(pairs)), tiny_models(moved=False))
    assert losses.terms["policy"].item() == pytest.approx(math.log(2))
    assert losses.metrics["rewards/accuracies"] == 0
    assert losses.metrics["rewards/margins"] == 0


def log_ratios(models, pair, per_token=False):
    for episode in pair:
        difference = logprob(models.policy, episode) - logprob(models.reference, episode)
        yield difference / (episode.num_action_tokens if per_token else 1)


def loss_of(pairs, models, **options):
    algorithm = Dpo(beta=BETA, **options)
    return algorithm.losses(collate(episodes_of(pairs)), models).terms["policy"].item()


def test_ipo_asks_for_a_margin_of_the_mean_over_tokens(pairs):
    models = tiny_models()
    margins = [chosen - rejected for chosen, rejected in (log_ratios(models, pair, per_token=True) for pair in pairs)]
    expected = np.mean([(margin - 1 / (2 * BETA)) ** 2 for margin in margins])
    assert loss_of(pairs, models, loss_type="ipo") == pytest.approx(expected, rel=1e-6)


def test_hinge_and_label_smoothing_equal_hand_computed_ones(pairs):
    models = tiny_models()
    margins = [BETA * (chosen - rejected) for chosen, rejected in (log_ratios(models, pair) for pair in pairs)]
    hinge = np.mean([max(0.0, 1 - margin) for margin in margins])
    assert loss_of(pairs, models, loss_type="hinge") == pytest.approx(hinge, rel=1e-6)
    smooth = [0.8 * math.log(1 + math.exp(-m)) + 0.2 * math.log(1 + math.exp(m)) for m in margins]
    assert loss_of(pairs, models, label_smoothing=0.2) == pytest.approx(np.mean(smooth), rel=1e-6)


def test_label_smoothing_belongs_to_the_sigmoid():
    with pytest.raises(ValueError, match="label_smoothing belongs to loss_type=sigmoid, got loss_type=ipo"):
        Dpo(loss_type="ipo", label_smoothing=0.1)


def test_the_weight_of_a_batch_is_its_number_of_pairs(pairs):
    assert Dpo().weight(collate(episodes_of(pairs))) == 5


def test_pairs_are_of_one_task_with_the_success_first(random_episodes):
    buffer = EpisodeBuffer(random_episodes(30))
    pairs = Dpo(max_pairs=2).select(buffer, np.random.default_rng(0))
    assert all(a.success and not b.success and a.task_id == b.task_id for a, b in pairs)
    assert len(pairs) == 2 * len(buffer.by_task())
