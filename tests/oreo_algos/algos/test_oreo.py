"""OREO through the algorithm class, against loops over episodes, steps and tokens."""

import math
import statistics
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tabular import parameters, tiny_models

from oreo_algos.algos import Oreo
from oreo_algos.batch import collate

BETA, ALPHA = 0.3, 0.2


@pytest.fixture
def episodes(make_episode):
    """Ragged; rewards on several steps; an observation between two steps and one inside a step."""
    return [
        make_episode([-1, -1, 0, 0, -1, -1, 1, 1, 1, 2], [0.0, 0.25, 1.0], tokens=range(10, 20), success=True),
        make_episode([-1, 0, -1, 0, 0], [-0.5], tokens=range(30, 35)),
        make_episode([-1, -1, -1, 0, 1], [0.5, 0.0], tokens=[7, 3, 9, 4, 4], success=True),
        make_episode([-1, 0, 1, -1, 1, -1], [0.0, -1.0], tokens=[8, 8, 2, 6, 1, 5]),
    ]


def steps_of(episode, granularity):
    """[(positions of the tokens, reward)] of each step of the loss."""
    positions = [[t for t, k in enumerate(episode.step_id) if k == step] for step in range(episode.num_steps)]
    steps = list(zip(positions, episode.rewards.tolist(), strict=True))
    if granularity == "step":
        return steps
    if granularity == "response":
        return [([t for own in positions for t in own], sum(episode.rewards.tolist()))]
    return [([t], reward if t == own[-1] else 0.0) for own, reward in steps for t in own]


def log_distribution(policy, episode, t):
    """Log-probabilities of token t from the tokens before it alone, [V]."""
    with torch.no_grad():
        return policy.logits(torch.tensor([episode.tokens[:t].tolist()]))[0, -1].log_softmax(-1)


def log_ratio(models, episode, t):
    token = int(episode.tokens[t])
    return (log_distribution(models.policy, episode, t) - log_distribution(models.reference, episode, t))[token].item()


def value_before(models, episode, t):
    """V from the tokens before t alone."""
    with torch.no_grad():
        prefix = SimpleNamespace(tokens=torch.tensor([episode.tokens[:t].tolist()]))
        return models.value.token_values(prefix)[0, t].item()


def divergence(models, episode, t, kind):
    """KL term of token t, nats."""
    own, ref = (log_distribution(network, episode, t).tolist() for network in (models.policy, models.reference))
    if kind == "exact":
        return sum(math.exp(p) * (p - r) for p, r in zip(own, ref, strict=True))
    if kind == "forward":
        return sum(math.exp(r) * (r - p) for p, r in zip(own, ref, strict=True))
    difference = ref[episode.tokens[t]] - own[episode.tokens[t]]
    return math.exp(difference) - 1 - difference


def loop(models, episodes, granularity):
    """For each episode a list of (V, target, residual) of its steps."""
    rows = []
    for episode in episodes:
        steps = steps_of(episode, granularity)
        row = []
        for k, (positions, _) in enumerate(steps):
            later = [t for own, _ in steps[k:] for t in own]
            target = sum(reward for _, reward in steps[k:]) - BETA * sum(log_ratio(models, episode, t) for t in later)
            value = value_before(models, episode, positions[0])
            row.append((value, target, value - target))
        rows.append(row)
    return rows


def ends_of_turns(episode):
    """Tokens after which the environment answers, or the episode is over."""
    action = set(np.flatnonzero(episode.step_id >= 0).tolist())
    return {t for t in action if t + 1 not in action}


def boundary_squares(models, episode, granularity):
    """Mean square at the states that a search reads and no step begins with; 0 without any, and at token level."""
    starts = {positions[0] for positions, _ in steps_of(episode, granularity)}
    read = {positions[0] for positions, _ in steps_of(episode, "step")} | ends_of_turns(episode)
    row = zip(steps_of(episode, "token"), loop(models, [episode], "token")[0], strict=True)
    found = [residual**2 for (positions, _), (_, _, residual) in row if positions[0] in read - starts]
    return mean(found) if found else 0.0


def mean(numbers):
    numbers = list(numbers)
    return math.fsum(numbers) / len(numbers)


GRANULARITIES = pytest.mark.parametrize("granularity", ["token", "step", "response"])


@GRANULARITIES
@pytest.mark.parametrize("kl", ["exact", "forward", "k3"])
def test_losses_equal_a_loop_over_episodes_and_steps(episodes, granularity, kl):
    models = tiny_models()
    losses = Oreo(granularity=granularity, beta=BETA, alpha=ALPHA, kl=kl).losses(collate(episodes), models)
    squares = mean(mean(residual**2 for _, _, residual in row) for row in loop(models, episodes, granularity))
    divergences = mean(
        mean(divergence(models, episode, t, kl) for t, k in enumerate(episode.step_id) if k >= 0)
        for episode in episodes
    )
    extra = mean(boundary_squares(models, episode, granularity) for episode in episodes)
    assert losses.terms["value"].item() == pytest.approx(squares + extra, rel=1e-6)  # rewards are float32
    assert losses.metrics.get("losses/value_boundaries", 0.0) == pytest.approx(extra, rel=1e-6)
    assert (extra > 0) == (granularity != "token")
    assert losses.terms["policy"].item() == pytest.approx(squares + ALPHA * divergences, rel=1e-6)
    assert losses.metrics["losses/value"] == losses.terms["value"].item()
    assert losses.metrics["losses/policy"] == pytest.approx(squares, rel=1e-6)
    assert losses.metrics["kl"] == pytest.approx(divergences, rel=1e-9)


def test_the_kl_term_is_averaged_over_the_action_tokens_of_an_episode_at_every_granularity(episodes):
    models = tiny_models()
    terms = [
        Oreo(granularity=granularity, alpha=ALPHA).losses(collate(episodes), models).metrics["kl"]
        for granularity in ("token", "step", "response")
    ]
    assert terms[0] == terms[1] == terms[2] > 0


@GRANULARITIES
def test_value_and_bellman_metrics_equal_hand_computed_ones(episodes, granularity):
    models = tiny_models()
    metrics = Oreo(granularity=granularity, beta=BETA).losses(collate(episodes), models).metrics
    rows = loop(models, episodes, granularity)
    values, targets, residuals = zip(*(step for row in rows for step in row), strict=True)
    last_token = [max(t for t, k in enumerate(episode.step_id) if k >= 0) for episode in episodes]
    final = [value_before(models, episode, t) for episode, t in zip(episodes, last_token, strict=True)]
    # Of an answer whose last step is one token, the state just before the end token is that step's.
    actions = [[k for k in episode.step_id if k >= 0] for episode in episodes]
    begun = [granularity == "token" or (granularity == "step" and own.count(own[-1]) == 1) for own in actions]
    values += tuple(value for value, counted in zip(final, begun, strict=True) if not counted)
    expected = {
        "values/mean": mean(values),
        "values/std": statistics.pstdev(values),
        "values/min": min(values),
        "values/max": max(values),
        "values/start": mean(row[0][0] for row in rows),
        "values/terminal_pos": mean([final[0], final[2]]),
        "values/terminal_neg": mean([final[1], final[3]]),
        "bellman/residual_abs": mean(abs(residual) for residual in residuals),
        "bellman/explained_variance": 1 - statistics.pvariance(residuals) / statistics.pvariance(targets),
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_ratio_and_entropy_metrics_equal_hand_computed_ones(episodes):
    models = tiny_models()
    metrics = Oreo().losses(collate(episodes), models).metrics
    actions = [[t for t, k in enumerate(episode.step_id) if k >= 0] for episode in episodes]
    ratios = [sum(log_ratio(models, episode, t) for t in own) for episode, own in zip(episodes, actions, strict=True)]
    # The lower of two middle values, as torch has it.
    assert metrics["log_ratio/pos_median"] == pytest.approx(statistics.median([ratios[0], ratios[2]]), rel=1e-9)
    assert metrics["log_ratio/neg_median"] == pytest.approx(statistics.median([ratios[1], ratios[3]]), rel=1e-9)
    entropies = []
    for episode, own in zip(episodes, actions, strict=True):
        logp = [log_distribution(models.policy, episode, t) for t in own]
        entropies.extend(-(row.exp() * row).sum().item() for row in logp)
    assert metrics["entropy"] == pytest.approx(mean(entropies), rel=1e-9)


def test_outcomes_that_do_not_occur_have_no_metric(episodes):
    metrics = Oreo().losses(collate([episodes[0]]), tiny_models()).metrics
    assert {"values/terminal_pos", "log_ratio/pos_median"} <= set(metrics)
    assert not {"values/terminal_neg", "log_ratio/neg_median"} & set(metrics)


def test_the_policy_gradient_of_a_step_is_its_residual_times_the_score_of_its_own_tokens(episodes):
    """Eq. 9: what lies after a step is fixed, so l_k appears in the gradient of residual k alone."""
    models = tiny_models()
    Oreo(granularity="step", beta=BETA, alpha=0).losses(collate(episodes), models).terms["policy"].backward()
    surrogate = 0.0
    for episode, row in zip(episodes, loop(models, episodes, "step"), strict=True):
        logprobs = models.policy.score(collate([episode])).logprobs[0]
        for (positions, _), (_, _, residual) in zip(steps_of(episode, "step"), row, strict=True):
            surrogate = surrogate + 2 * BETA * residual * logprobs[positions].sum() / len(row) / len(episodes)
    expected = torch.autograd.grad(surrogate, list(models.policy.parameters()))
    for parameter, gradient in zip(models.policy.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-6, atol=1e-9)


# --- value warm-up


@GRANULARITIES
@pytest.mark.parametrize("moved", [False, True])
def test_a_frozen_policy_gets_no_term_and_leaves_the_value_loss_as_it_is(episodes, granularity, moved):
    models, batch = tiny_models(moved=moved), collate(episodes)
    algorithm = Oreo(granularity=granularity, beta=BETA)
    models.policy_is_reference = False
    free = algorithm.losses(batch, models).terms
    models.policy_frozen = True
    frozen = algorithm.losses(batch, models)
    assert set(frozen.terms) == {"value"}
    assert frozen.terms["value"].item() == free["value"].item()
    assert not {"losses/policy", "kl", "entropy", "log_ratio/pos_median"} & set(frozen.metrics)


@GRANULARITIES
def test_the_shortcut_while_the_policy_is_the_reference_changes_neither_loss_nor_gradient(
    episodes, granularity, monkeypatch
):
    algorithm, batch = Oreo(granularity=granularity, beta=BETA), collate(episodes)
    found = {}
    for shortcut in (False, True):
        models = tiny_models(moved=False)
        models.policy_frozen, models.policy_is_reference = True, shortcut
        if shortcut:
            monkeypatch.setattr(type(models.policy), "score", lambda *_, **__: pytest.fail("the policy was scored"))
        losses = algorithm.losses(batch, models)
        losses.terms["value"].backward()
        gradients = {name: p.grad.clone() for name, p in models.value.named_parameters()}
        found[shortcut] = losses.terms["value"].item(), gradients, losses.metrics
    assert found[True][0] == found[False][0]
    assert found[True][2] == found[False][2]
    for name, gradient in found[False][1].items():
        assert torch.equal(found[True][1][name], gradient)
        assert gradient.any()


def test_without_a_value_network_the_error_says_so(episodes):
    models = tiny_models()
    models.value = None
    with pytest.raises(ValueError, match="OREO needs a value network"):
        Oreo().losses(collate(episodes), models)


def test_scoring_changes_no_parameter(episodes):
    models = tiny_models()
    before = parameters(models.policy)
    Oreo().losses(collate(episodes), models)
    assert all(torch.equal(before[name], p) for name, p in models.policy.named_parameters())
