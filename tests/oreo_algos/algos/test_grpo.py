"""GRPO against loops, the policy gradient in closed form, and rounds of fresh samples that raise the reward."""

import numpy as np
import pytest
import torch
from tabular import TablePolicy, sampled, tiny_models

from oreo_algos import EpisodeBuffer, Models, TrainerConfig, train
from oreo_algos.algos import Grpo
from oreo_algos.algos.grpo import group_advantages
from oreo_algos.algos.selection import NothingToLearnError
from oreo_algos.batch import collate
from oreo_algos.losses import clipped_ratio_loss


@pytest.fixture
def of_tasks(make_episode):
    """Build a buffer from the rewards of each task."""

    def build(**rewards):
        return EpisodeBuffer(
            sampled(
                make_episode([-1, 0], [reward], task_id=task) for task, column in rewards.items() for reward in column
            )
        )

    return build


def test_advantages_are_within_a_task_and_none_where_all_returns_are_the_same(of_tasks):
    buffer = of_tasks(a=[1, 0, 0, 1], b=[1, 1], c=[0.5], d=[2, 0, 1])
    plain, scaled = (group_advantages(buffer, scale=scale) for scale in (False, True))
    nothing = [np.nan] * 3
    np.testing.assert_allclose(plain, [0.5, -0.5, -0.5, 0.5, *nothing, 1, -1, 0])
    deviation = np.sqrt(1 / 3)
    np.testing.assert_allclose(scaled, [*np.array([0.5, -0.5, -0.5, 0.5]) / deviation, *nothing, 1, -1, 0])
    chosen = Grpo().select(buffer, np.random.default_rng(0))
    assert [episode.task_id for episode in chosen] == list("aaaaddd")
    assert [episode.info["advantage"] for episode in chosen] == pytest.approx(scaled[[0, 1, 2, 3, 7, 8, 9]].tolist())


@pytest.mark.parametrize("rewards", [{"a": [1, 1], "b": [0, 0]}, {"a": [1], "b": [0]}])
def test_tasks_without_a_difference_are_refused_with_the_mend(rewards, of_tasks):
    with pytest.raises(NothingToLearnError, match=r"in each of the 2 tasks .* same return.*\(collect.samples\)"):
        Grpo().select(of_tasks(**rewards), np.random.default_rng(0))


def test_no_episode_is_refused():
    with pytest.raises(NothingToLearnError, match="in each of the 0 tasks"):
        Grpo().select(EpisodeBuffer([]), np.random.default_rng(0))


def test_episodes_without_log_probabilities_at_sampling_are_refused(make_episode, tmp_path):
    buffer = EpisodeBuffer([make_episode([-1, 0], [float(i)]) for i in range(2)])
    with pytest.raises(ValueError, match=r"2 of 2 episodes have no behavior_logprobs .*oreo collect"):
        train(Grpo(), tiny_models(), buffer, TrainerConfig(tracker="none"), tmp_path)


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_the_loss_is_a_loop_over_tokens(alpha, random_episodes):
    models, algorithm = tiny_models(), Grpo(alpha=alpha, clip=0.1)
    examples = algorithm.select(EpisodeBuffer(sampled(random_episodes(8))), np.random.default_rng(0))
    assert algorithm.needs == ({"reference"} if alpha else set())
    if not alpha:
        models.reference = None
    terms, kls, clipped, ratios = [], [], [], []
    for episode in examples:
        gain, own = episode.info["advantage"], models.policy.score(collate([episode])).logprobs[0].detach().numpy()
        tokens = np.flatnonzero(episode.step_id >= 0)
        ratio = np.exp(own - episode.behavior_logprobs)[tokens]
        terms.append(np.mean([min(w * gain, min(max(w, 0.9), 1.1) * gain) for w in ratio]))
        clipped += [w > 1.1 if gain > 0 else w < 0.9 for w in ratio]
        ratios += ratio.tolist()
        if alpha:
            difference = (models.reference.score(collate([episode])).logprobs[0].detach().numpy() - own)[tokens]
            kls.append(np.mean(np.exp(difference) - 1 - difference))
    found = algorithm.losses(collate(examples, extra=algorithm.extra), models)
    expected = -np.mean(terms) + (alpha * np.mean(kls) if alpha else 0)
    assert found.terms["policy"].item() == pytest.approx(expected, rel=1e-5)
    assert found.metrics["losses/policy"] == pytest.approx(-np.mean(terms), rel=1e-5)
    assert 0 < found.metrics["ratio/clipped"] == pytest.approx(np.mean(clipped))
    assert found.metrics["ratio/mean"] == pytest.approx(np.mean(ratios), rel=1e-5)
    assert ("kl" in found.metrics) == bool(alpha)


def test_a_token_that_has_moved_far_enough_has_no_gradient():
    ratio = torch.tensor([[1.5, 0.5, 1.05], [1.5, 0.5, float("nan")]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    logprobs = ratio.log().requires_grad_()
    clipped_ratio_loss(logprobs, torch.zeros(2, 3), torch.tensor([1.0, -1.0]), mask, clip=0.2).backward()
    expected = -torch.tensor([[0, 0.5, 1.05], [-1.5, 0, 0]]) / torch.tensor([[3], [2]]) / 2
    torch.testing.assert_close(logprobs.grad, expected)
    with pytest.raises(ValueError, match=r"clip must be in \(0, 1\), got 0"):
        clipped_ratio_loss(logprobs, logprobs, torch.zeros(2), mask, clip=0)
    with pytest.raises(ValueError, match="shapes must be equal"):
        clipped_ratio_loss(logprobs, logprobs, torch.zeros(3), mask, clip=0.2)


# --- a bandit: token 0 is its state, the actions are the tokens 0 to 3

CHANCES = torch.tensor([0.1, 0.9, 0.3, 0.2])


def drawn(policy, make_episode, seed, tasks=8, samples=8):
    """Fresh samples of the present policy, with what it said of them."""
    generator = torch.Generator().manual_seed(seed)
    logp = policy.table.detach()[0].log_softmax(dim=0)
    actions = torch.multinomial(logp.exp(), tasks * samples, replacement=True, generator=generator)
    solved = torch.rand(len(actions), generator=generator) < CHANCES[actions]
    return EpisodeBuffer(
        make_episode(
            [-1, 0],
            [float(won)],
            tokens=[0, action],
            behavior_logprobs=[0, logp[action].item()],
            task_id=f"task-{number % tasks}",
        )
        for number, (action, won) in enumerate(zip(actions.tolist(), solved.tolist(), strict=True))
    )


def test_on_policy_the_gradient_is_that_of_the_expected_reward(make_episode):
    """Of samples in exact proportion to the policy: ``-pi_a (r_a - J)`` by the logit of action a."""
    counts, rewards = [4, 1, 2, 3], [0.0, 1.0, 0.5, 0.25]
    policy = TablePolicy(torch.tensor(counts).log().repeat(4, 1))
    episodes = [
        make_episode([-1, 0], [rewards[a]], tokens=[0, a], behavior_logprobs=[0, np.log(counts[a] / 10)])
        for a in range(4)
        for _ in range(counts[a])
    ]
    algorithm = Grpo(scale_by_deviation=False)
    examples = algorithm.select(EpisodeBuffer(episodes), np.random.default_rng(0))
    algorithm.losses(collate(examples, extra=algorithm.extra), Models(policy)).terms["policy"].backward()
    chance = torch.tensor(counts) / 10
    expected = -chance * (torch.tensor(rewards) - (chance * torch.tensor(rewards)).sum())
    torch.testing.assert_close(policy.table.grad[0], expected, rtol=1e-5, atol=1e-7)


def test_rounds_of_fresh_samples_raise_the_reward(make_episode, tmp_path):
    """Twelve rounds of two steps each, all samples from the policy that learns; the best action pays 0.9."""
    models = Models(TablePolicy(torch.zeros(4, 4)))
    expected = []
    for number in range(12):
        expected.append((models.policy.table.detach()[0].softmax(dim=0) * CHANCES).sum().item())
        buffer = drawn(models.policy, make_episode, seed=number)
        algorithm = Grpo(policy_lr=0.2, batch_size=32)
        train(algorithm, models, buffer, TrainerConfig(tracker="none"), tmp_path / str(number))
    assert expected[0] == pytest.approx(CHANCES.mean().item())
    assert expected[4] > expected[0] + 0.1 and expected[-1] > 0.8
