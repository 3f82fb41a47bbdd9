"""The implicit process reward model against numbers by hand and a closed form."""

import math

import numpy as np
import pytest
import torch
from tabular import TablePolicy, tiny_models

from oreo_algos import EpisodeBuffer, Models, TrainerConfig, train
from oreo_algos.algos import ImplicitPrm
from oreo_algos.algos.selection import NothingToLearnError
from oreo_algos.batch import collate
from oreo_algos.losses import outcome_cross_entropy


def test_loss_and_metrics_equal_hand_computed_ones(random_episodes):
    models, episodes = tiny_models(), random_episodes(8, seed=3)
    rows = []
    for episode in episodes:
        own, ref = (net.score(collate([episode])).logprobs.sum().item() for net in (models.policy, models.reference))
        reward = 0.7 * (own - ref)
        chance = 1 / (1 + math.exp(-reward))
        loss = -math.log(chance if episode.success else 1 - chance)
        rows.append((loss, (reward > 0) == episode.success, reward, own, episode.success))
    found = ImplicitPrm(beta=0.7).losses(collate(episodes), models)
    assert found.terms["policy"].item() == pytest.approx(np.mean([row[0] for row in rows]), rel=1e-6)
    assert found.metrics["outcomes/accuracy"] == pytest.approx(np.mean([row[1] for row in rows]))
    for name, outcome in (("chosen", True), ("rejected", False)):
        of = [row for row in rows if row[4] == outcome]
        assert found.metrics[f"rewards/{name}"] == pytest.approx(np.mean([row[2] for row in of]), rel=1e-6)
        assert found.metrics[f"logps/{name}"] == pytest.approx(np.mean([row[3] for row in of]), rel=1e-6)


@pytest.mark.parametrize("beta", [1.0, 0.25])
def test_in_a_bandit_the_reward_becomes_the_logit_of_success(beta, make_episode, tmp_path):
    """Chosen so that a policy can: ``sum_a ref_a exp(logit p_a / beta)`` is 1 where beta is 1, and the optimum is
    ``pi_a = ref_a exp(logit p_a)`` with p of 3/5 and 1/3. At another beta the same policy says ``p^beta`` odds.
    """
    counts = [(1, 1.0, 3), (1, 0.0, 2), (2, 1.0, 1), (2, 0.0, 2)]
    buffer = EpisodeBuffer(
        make_episode([-1, 0], [reward], tokens=[0, action]) for action, reward, count in counts for _ in range(count)
    )
    start = torch.tensor([-30.0, 0.0, 0.0]).repeat(3, 1)
    models = Models(TablePolicy(start), TablePolicy(start), policy_is_reference=True)
    algorithm = ImplicitPrm(policy_lr=0.1, beta=beta, batch_size=100, epochs=150, max_grad_norm=1e9)
    train(algorithm, models, buffer, TrainerConfig(tracker="none"), tmp_path)
    policy = models.policy.table.detach()[0].softmax(dim=0)[1:]
    if beta == 1:
        assert policy.tolist() == pytest.approx([0.75, 0.25], abs=2e-3)
        assert torch.sigmoid((policy / 0.5).log()).tolist() == pytest.approx([3 / 5, 1 / 3], abs=2e-3)
    # In general: the slope of the loss along every direction that keeps the sum of pi is 0.
    share, solved = torch.tensor([5 / 8, 3 / 8]), torch.tensor([3 / 5, 1 / 3])
    slope = share * (torch.sigmoid(beta * (policy / 0.5).log()) - solved)
    assert (slope - policy * slope.sum()).abs().max() < 1e-3


@pytest.mark.parametrize(("reward", "how_many"), [(1.0, "all of"), (0.0, "none of")])
def test_one_outcome_alone_is_refused(reward, how_many, make_episode):
    buffer = EpisodeBuffer([make_episode([-1, 0], [reward])] * 3)
    with pytest.raises(NothingToLearnError, match=f"{how_many} the 3 episodes .* tells one outcome from the other"):
        ImplicitPrm().select(buffer, np.random.default_rng(0))


def test_bad_arguments_of_the_loss_are_refused():
    ratio, success = torch.zeros(2), torch.tensor([True, False])
    assert outcome_cross_entropy(ratio, success, beta=1.0).item() == pytest.approx(math.log(2))
    with pytest.raises(ValueError, match="beta must be > 0"):
        outcome_cross_entropy(ratio, success, beta=0)
    with pytest.raises(ValueError, match="success must be bool"):
        outcome_cross_entropy(ratio, success.float(), beta=1.0)
    with pytest.raises(ValueError, match="shapes must be equal"):
        outcome_cross_entropy(ratio[:1], success, beta=1.0)
