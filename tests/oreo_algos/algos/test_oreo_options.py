"""The options of OREO, each against a value computed another way, and what the trainer keeps for them."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from tabular import parameters, tiny_models
from test_oreo import ALPHA, BETA, GRANULARITIES, ends_of_turns, log_ratio, loop, mean, steps_of, value_before

from oreo_algos import EpisodeBuffer, TrainerConfig, train
from oreo_algos.algos import Oreo
from oreo_algos.algos.adaptation import dual_ascent, frozen_copy, move_towards
from oreo_algos.batch import collate
from oreo_algos.losses import full_gradient_policy_loss, importance_weights, partial_episode_mean, positive_hinge_loss
from oreo_algos.segments import first_token, regroup, unread_states
from oreo_algos.training.metrics_writer import read_metrics

FAST = {"policy_lr": 0.01, "value_lr": 0.01, "max_grad_norm": 1e9}


@pytest.fixture
def episodes(random_episodes):
    return random_episodes(6, seed=5)


@pytest.fixture
def buffer(random_episodes):
    return EpisodeBuffer(random_episodes(14))


def terms(episodes, models=None, **options):
    settings = {"beta": BETA, "alpha": ALPHA, "boundary_values": False} | options
    return Oreo(**settings).losses(collate(episodes), models or tiny_models()).terms


def step_ratios(models, episode, granularity):
    return [sum(log_ratio(models, episode, t) for t in own) for own, _ in steps_of(episode, granularity)]


# --- levels and alpha


def test_alpha_is_the_papers_for_the_level_unless_it_is_given():
    found = {level: Oreo(granularity=level).alpha for level in ("token", "step", "response")}
    assert found == {"token": 0.01, "step": 0.1, "response": 0.3}
    assert Oreo(granularity="step", alpha=0.0).alpha == 0.0
    assert dataclasses.replace(Oreo(), granularity="response", alpha=None).alpha == 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"consistency": "one-step"}, "consistency must be one of path, full_gradient, one_step, .*did you mean 'one_"),
        ({"kl_target": 0}, "Oreo.kl_target must be > 0, got 0"),
        ({"kl_target": 0.1, "alpha": 0}, "alpha must be > 0, got 0"),
        ({"kl_target_rate": 0}, "kl_target_rate must be > 0, got 0"),
        ({"target_decay": 1.0}, r"target_decay must be in \[0, 1\) or null, got 1\.0"),
        ({"log_ratio_clip": -1}, "Oreo.log_ratio_clip must be > 0, got -1"),
        ({"log_ratio_clip": 1, "consistency": "one_step"}, "consistency=one_step has none; leave it out"),
        ({"positive_hinge": -1}, "positive_hinge must not be negative, got -1"),
        ({"nll_weight": -1}, "nll_weight must not be negative, got -1"),
        ({"value_beta": -1}, "value_beta must not be negative, got -1"),
        ({"value_beta": 0, "importance_cap": 1}, "value_beta=0 leaves out; leave one of them out"),
        ({"value_updates": 0}, "Oreo.value_updates must be > 0, got 0"),
        ({"value_updates": 1.5}, "Oreo.value_updates must be a whole number, got 1.5"),
        ({"value_updates": 2, "value_only": True}, "set epochs, not value_updates"),
    ],
)
def test_an_impossible_option_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Oreo(**options)


# --- losses


@GRANULARITIES
def test_one_step_consistency_equals_a_loop(episodes, granularity):
    models = tiny_models()
    rows = []
    for episode in episodes:
        steps = steps_of(episode, granularity)
        values = [value_before(models, episode, own[0]) for own, _ in steps] + [0.0]
        ratios = step_ratios(models, episode, granularity)
        own = [values[k] - steps[k][1] - values[k + 1] + BETA * ratios[k] for k in range(len(steps))]
        rows.append(mean(residual**2 for residual in own))
    found = terms(episodes, models, granularity=granularity, consistency="one_step", alpha=0)
    assert found["value"].item() == pytest.approx(mean(rows), rel=1e-6)
    assert found["policy"].item() == pytest.approx(mean(rows), rel=1e-6)


@GRANULARITIES
@pytest.mark.parametrize("consistency", ["path", "one_step"])
@pytest.mark.parametrize("charged", [0.0, 0.7])
def test_value_beta_is_the_beta_of_the_value_alone(episodes, granularity, consistency, charged):
    models = tiny_models()
    found = {
        beta: terms(episodes, models, granularity=granularity, consistency=consistency, beta=BETA, value_beta=beta)
        for beta in (None, BETA, charged)
    }
    alone = terms(episodes, models, granularity=granularity, consistency=consistency, beta=charged or 1e-15)
    assert found[None]["value"].item() == found[BETA]["value"].item() != found[charged]["value"].item()
    assert found[charged]["value"].item() == pytest.approx(alone["value"].item(), rel=1e-6)
    assert len({each["policy"].item() for each in found.values()}) == 1


def test_one_step_gradients_take_the_next_value_as_a_number(episodes):
    """The value's slope at its own state is 2 * residual; the next state contributes none."""
    models, episode = tiny_models(), episodes[0]
    terms([episode], models, granularity="step", consistency="one_step")["value"].backward()
    batch = collate([episode])
    columns = [own[0] for own, _ in steps_of(episode, "step")]
    values = models.value.token_values(batch)[0, columns]
    later = torch.cat([values[1:], values.new_zeros(1)]).detach()
    ratios = torch.tensor(step_ratios(models, episode, "step"), dtype=values.dtype)
    rewards = torch.tensor(episode.rewards)
    expected = torch.autograd.grad(
        (values - rewards - later + BETA * ratios).square().mean(), list(models.value.parameters())
    )
    for parameter, gradient in zip(models.value.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-6, atol=1e-9)


@GRANULARITIES
def test_full_gradient_consistency_is_the_gradient_of_the_whole_square(episodes, granularity):
    models = tiny_models()
    found = terms(episodes, models, granularity=granularity, consistency="full_gradient", alpha=0)["policy"]
    assert found.item() == terms(episodes, models, granularity=granularity, alpha=0)["policy"].item()
    total = 0.0
    for episode in episodes:
        logprobs = models.policy.score(collate([episode])).logprobs[0]
        steps = steps_of(episode, granularity)
        own = [
            value_before(models, episode, positions[0])
            - sum(reward for _, reward in steps[k:])
            + BETA * sum(logprobs[t] - reference_logprob(models, episode, t) for later, _ in steps[k:] for t in later)
            for k, (positions, _) in enumerate(steps)
        ]
        total = total + sum(residual**2 for residual in own) / len(own) / len(episodes)
    weights = list(models.policy.parameters())
    expected = torch.autograd.grad(total, weights)
    for one, other in zip(torch.autograd.grad(found, weights), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-8)  # rewards are float32


def reference_logprob(models, episode, t):
    tokens = torch.tensor([episode.tokens[:t].tolist()])
    return models.reference.logits(tokens)[0, -1].log_softmax(-1)[int(episode.tokens[t])].item()


def test_full_gradient_passes_gradcheck():
    values, ratio, returns = torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.manual_seed(0))
    mask = torch.arange(5) < torch.tensor([[5], [1], [3], [4]])
    ratio.requires_grad_()
    assert torch.autograd.gradcheck(lambda own: full_gradient_policy_loss(values, own, returns, mask, beta=0.4), ratio)


@GRANULARITIES
def test_the_clip_bounds_the_accumulated_log_ratio_of_the_value_loss_only(episodes, granularity):
    models, clip = tiny_models(), 0.02
    rows, clipped = [], 0
    for episode in episodes:
        steps, ratios = steps_of(episode, granularity), step_ratios(models, episode, granularity)
        own = []
        for k, (positions, _) in enumerate(steps):
            to_go = sum(ratios[k:])
            clipped += abs(to_go) > clip
            bounded = min(max(to_go, -clip), clip)
            reward = sum(reward for _, reward in steps[k:])
            own.append((value_before(models, episode, positions[0]) + BETA * bounded - reward) ** 2)
        rows.append(mean(own))
    found = terms(episodes, models, granularity=granularity, log_ratio_clip=clip)
    assert clipped > 0
    assert found["value"].item() == pytest.approx(mean(rows), rel=1e-6)
    assert found["policy"].item() == terms(episodes, models, granularity=granularity)["policy"].item()


@GRANULARITIES
@pytest.mark.parametrize("cap", [0.01, 1.0])
def test_importance_weights_are_those_of_a_loop(episodes, granularity, cap):
    models = tiny_models()
    rows = []
    for episode, row in zip(episodes, loop(models, episodes, granularity), strict=True):
        ratios = step_ratios(models, episode, granularity)
        weights = [math.exp(min(sum(ratios[k:]), cap)) for k in range(len(row))]
        rows.append(mean(weight * residual**2 for weight, (_, _, residual) in zip(weights, row, strict=True)))
    found = terms(episodes, models, granularity=granularity, importance_cap=cap)
    assert found["value"].item() == pytest.approx(mean(rows), rel=1e-6)
    assert found["policy"].item() == terms(episodes, models, granularity=granularity)["policy"].item()


def test_importance_weights_never_exceed_their_cap_and_have_no_gradient():
    ratio = torch.tensor([[3.0, -1.0, 9.0]], requires_grad=True)
    mask = torch.tensor([[True, True, False]])
    weights = importance_weights(ratio, mask, cap=1.0)
    assert weights[0, :2].tolist() == pytest.approx([math.e, math.exp(-1)])
    assert not weights.requires_grad


def test_the_hinge_is_zero_above_the_reference_and_for_failures():
    ratio = torch.tensor([-2.0, 0.5, -3.0], requires_grad=True)
    loss = positive_hinge_loss(ratio, torch.tensor([True, True, False]))
    assert loss.item() == pytest.approx(2 / 3)
    loss.backward()
    assert ratio.grad.tolist() == pytest.approx([-1 / 3, 0, 0])


def test_the_trajectory_loss_is_the_response_level_with_the_hinge(episodes):
    models = tiny_models()
    plain = terms(episodes, models, granularity="response")["policy"].item()
    found = terms(episodes, models, granularity="response", positive_hinge=0.7)["policy"].item()
    ratios = [sum(step_ratios(models, episode, "token")) for episode in episodes]
    solved = [sum(episode.rewards) > 0 for episode in episodes]
    assert any(ratio < 0 and own for ratio, own in zip(ratios, solved, strict=True))
    hinge = mean(max(0.0, -ratio) * own for ratio, own in zip(ratios, solved, strict=True))
    assert found - plain == pytest.approx(0.7 * hinge, rel=1e-6)


@GRANULARITIES
def test_the_likelihood_of_successes_is_a_mean_over_their_tokens_and_over_all_episodes(episodes, granularity):
    episodes = [dataclasses.replace(e, success=k % 2 == 0) for k, e in enumerate(episodes)]
    mask = (episodes[0].step_id >= 0) & (np.arange(episodes[0].num_tokens) % 2 == 0)
    episodes[0] = dataclasses.replace(episodes[0], loss_mask=mask)
    models = tiny_models()
    plain = terms(episodes, models, granularity=granularity)
    found = terms(episodes, models, granularity=granularity, nll_weight=0.7)
    surprises = [-models.policy.score(collate([e])).logprobs[0].detach().numpy() for e in episodes]
    imitated = [(e.step_id >= 0) & (True if e.loss_mask is None else e.loss_mask) for e in episodes]
    expected = mean(e.success * x[own].mean() for e, x, own in zip(episodes, surprises, imitated, strict=True))
    assert found["policy"].item() - plain["policy"].item() == pytest.approx(0.7 * expected, rel=1e-5)
    assert found["value"].item() == plain["value"].item()


# --- values where a search reads them


@GRANULARITIES
def test_unread_states_equal_a_loop(random_episodes, granularity):
    episodes = random_episodes(30, seed=9)
    batch = collate(episodes)
    mask = unread_states(batch, granularity)
    columns = first_token(regroup(batch, "token"))
    for row, episode in enumerate(episodes):
        action = np.flatnonzero(episode.step_id >= 0).tolist()
        firsts = {action[episode.step_id[action].tolist().index(k)] for k in range(episode.num_steps)}
        begun = {"token": set(action), "step": firsts, "response": {action[0]}}[granularity]
        assert set(columns[row][mask[row]].tolist()) == (firsts | ends_of_turns(episode)) - begun


def test_the_state_before_the_end_of_every_turn_is_read_and_that_before_a_line_break_is_not(make_episode):
    # Two turns; the first has two steps, and its second one ends it.
    episode = make_episode([-1, 0, 0, 1, 1, 1, -1, 2, 2, 2], [0.0, 0.0, 1.0])
    batch = collate([episode])
    columns = first_token(regroup(batch, "token"))[0]
    assert columns[unread_states(batch, "step")[0]].tolist() == [5, 9]
    assert columns[unread_states(batch, "response")[0]].tolist() == [3, 5, 7, 9]


@pytest.mark.parametrize("granularity", ["step", "response"])
def test_boundary_values_train_the_value_and_leave_the_policy_term_alone(episodes, granularity):
    models = tiny_models()
    found = {on: terms(episodes, models, granularity=granularity, boundary_values=on) for on in (False, True)}
    assert found[True]["policy"].item() == found[False]["policy"].item()
    assert found[True]["value"].item() > found[False]["value"].item()
    gradients = [torch.autograd.grad(found[on]["policy"], list(models.policy.parameters())) for on in (False, True)]
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@pytest.mark.parametrize("options", [{"log_ratio_clip": 0.02}, {"importance_cap": 0.01}])
def test_boundary_values_are_clipped_and_weighed_like_those_of_steps(episodes, options):
    models, rows = tiny_models(), []
    clip, cap = options.get("log_ratio_clip", math.inf), options.get("importance_cap", -math.inf)
    for episode in episodes:
        action = np.flatnonzero(episode.step_id >= 0).tolist()
        starts = {own[0] for own, _ in steps_of(episode, "step")}
        squares = []
        for t in sorted((starts | ends_of_turns(episode)) - {action[0]}):
            to_go = sum(log_ratio(models, episode, later) for later in action if later >= t)
            # The reward of an action falls on its last token, so it is still to come at each of its tokens.
            reward = sum(episode.rewards[episode.step_id[t] :].tolist())
            residual = value_before(models, episode, t) + BETA * min(max(to_go, -clip), clip) - reward
            squares.append(residual**2 * (math.exp(min(to_go, cap)) if cap > 0 else 1.0))
        rows.append(mean(squares) if squares else 0.0)
    settings = {"beta": BETA, "granularity": "response", **options}
    metrics = Oreo(**settings).losses(collate(episodes), models).metrics
    assert metrics["losses/value_boundaries"] == pytest.approx(mean(rows), rel=1e-6)


def test_only_a_level_that_trains_the_final_value_says_so():
    assert Oreo().trains_final_value and Oreo(boundary_values=False).trains_final_value
    for level in ("step", "response"):
        assert Oreo(granularity=level).trains_final_value
        assert not Oreo(granularity=level, boundary_values=False).trains_final_value


def test_a_partial_mean_counts_an_episode_without_an_entry_as_0():
    x = torch.tensor([[1.0, 3.0], [math.nan, 5.0], [7.0, 7.0]])
    mask = torch.tensor([[True, True], [False, True], [False, False]])
    assert partial_episode_mean(x, mask).item() == pytest.approx((2 + 5 + 0) / 3)


# --- what adapts from step to step


def run(algorithm, buffer, folder, models=None, evaluate=None, **config):
    models = models or tiny_models(moved=False)
    train(algorithm, models, buffer, TrainerConfig(evaluate_every=1, **config), folder, evaluate=evaluate)
    return models, read_metrics(folder)


def test_dual_ascent_raises_alpha_above_the_target_and_lowers_it_below():
    assert dual_ascent(math.log(0.2), 0.5, target=0.1, rate=2.0) == pytest.approx(math.log(0.2) + 0.8)
    assert dual_ascent(0.0, 0.0, target=0.1, rate=2.0) == pytest.approx(-0.2)


def test_alpha_follows_the_measured_kl(buffer, tmp_path):
    algorithm = Oreo(**FAST, batch_size=5, epochs=3, value_warmup_steps=2, alpha=0.2, kl_target=0.01, kl_target_rate=3)
    models, metrics = run(algorithm, buffer, tmp_path)
    expected = math.log(0.2)
    for row in metrics[2:]:
        assert row["train/alpha"] == pytest.approx(math.exp(expected))
        expected += 3 * (row["train/kl"] - 0.01)
    assert models.numbers["log_alpha"] == pytest.approx(expected)
    assert "train/alpha" not in metrics[0]
    assert metrics[-1]["train/alpha"] != metrics[2]["train/alpha"]


def test_the_moving_average_follows_the_policy_and_stays_where_the_policy_is_frozen(buffer, tmp_path):
    models = tiny_models(moved=False)
    history = []
    algorithm = Oreo(**FAST, batch_size=5, epochs=2, value_warmup_steps=2, target_decay=0.7)
    expected = parameters(models.policy)
    run(algorithm, buffer, tmp_path, models, lambda step: history.append(parameters(models.policy)) or {})
    for step, own in enumerate(history):
        if step >= 2:
            expected = {name: 0.7 * expected[name] + 0.3 * own[name] for name in own}
    for name, parameter in models.target.named_parameters():
        torch.testing.assert_close(parameter, expected[name])
        assert not parameter.requires_grad


def test_the_value_learns_from_the_average_and_the_policy_from_itself(episodes):
    own, other = tiny_models(0), tiny_models(1)
    plain = terms(episodes, own)
    with_target = dataclasses.replace(own, target=other.policy)
    of_target = terms(episodes, dataclasses.replace(own, policy=other.policy))
    found = terms(episodes, with_target)
    assert found["policy"].item() == plain["policy"].item()
    assert found["value"].item() == pytest.approx(of_target["value"].item(), rel=1e-9)
    with_target.policy_frozen = True
    assert terms(episodes, with_target)["value"].item() == pytest.approx(of_target["value"].item(), rel=1e-9)


def test_a_copy_with_decay_0_is_the_network_itself():
    models = tiny_models(0)
    twin = frozen_copy(tiny_models(1).policy)
    move_towards(twin, models.policy, decay=0.0)
    assert all(torch.equal(parameters(models.policy)[name], p) for name, p in twin.named_parameters())


@pytest.mark.parametrize("stop_at", [3, 6])
def test_what_adapts_survives_a_restart_bit_for_bit(stop_at, buffer, tmp_path):
    algorithm = Oreo(
        **FAST, batch_size=5, epochs=2, value_updates=2, target_decay=0.9, kl_target=0.01, value_warmup_steps=1
    )

    def stop(step):
        if step == stop_at:
            raise KeyboardInterrupt
        return {}

    whole, metrics = run(algorithm, buffer, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(algorithm, buffer, tmp_path / "cut", evaluate=stop, checkpoint_every=2)
    cut, again = run(algorithm, buffer, tmp_path / "cut", checkpoint_every=2)
    assert metrics == again and whole.numbers == cut.numbers
    for kind in ("policy", "value", "target"):
        for name, parameter in parameters(getattr(whole, kind)).items():
            assert torch.equal(parameter, parameters(getattr(cut, kind))[name])


# --- which network a step trains


def moved(history):
    """For each step whether the policy moved, and whether the value did."""
    pairs = itertools.pairwise(history)
    return [tuple(any(not a[k][n].equal(b[k][n]) for n in a[k]) for k in ("policy", "value")) for a, b in pairs]


def run_and_watch(algorithm, buffer, folder):
    models = tiny_models()

    def snapshot():
        return {kind: parameters(getattr(models, kind)) for kind in ("policy", "value")}

    history = [snapshot()]
    run(algorithm, buffer, folder, models, lambda step: history.append(snapshot()) or {})
    return moved(history)


def test_several_value_updates_lead_each_policy_update(buffer, tmp_path):
    algorithm = Oreo(**FAST, batch_size=5, epochs=2, value_updates=3, value_warmup_steps=1)
    value, both = (False, True), (True, True)
    assert run_and_watch(algorithm, buffer, tmp_path) == [value, *([value, value, both] * 6)]


def test_value_only_never_moves_the_policy(buffer, tmp_path):
    algorithm = Oreo(**FAST, batch_size=5, epochs=2, value_only=True, value_warmup_steps=1)
    assert run_and_watch(algorithm, buffer, tmp_path) == [(False, True)] * 7
