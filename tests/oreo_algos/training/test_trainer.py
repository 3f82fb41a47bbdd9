"""The training loop: micro-batches, order of the data, schedule, value warm-up, errors."""

import dataclasses
import itertools
import logging
import math
from collections import Counter

import numpy as np
import pytest
import torch
from tabular import parameters, tiny_models
from training_runs import run

from oreo_algos import EpisodeBuffer, TrainerConfig, train
from oreo_algos.algos import Dpo, Kto, Losses, Oreo, RejectionSampling, Sft
from oreo_algos.batch import collate
from oreo_algos.training import trainer
from oreo_algos.training.metrics_writer import read_metrics

# Rates far above the paper's, so that a few steps move every parameter; no clipping unless a test asks for it.
FAST = {"policy_lr": 0.01, "max_grad_norm": 1e9}


def trained(models):
    """Parameters of both networks by name."""
    return {
        f"{kind}.{name}": p for kind in ("policy", "value") for name, p in parameters(getattr(models, kind)).items()
    }


def assert_equal_parameters(left, right, **tolerance):
    for name, parameter in trained(left).items():
        torch.testing.assert_close(parameter, trained(right)[name], msg=name, **tolerance)


# --- gradient accumulation

ACCUMULATING = {
    "oreo-token": Oreo(**FAST, value_lr=0.01, batch_size=5, epochs=2, value_warmup_steps=2),
    "oreo-step": Oreo(**FAST, value_lr=0.01, batch_size=5, granularity="step", beta=0.5),
    "sft": Sft(**FAST, batch_size=5, epochs=2),
    "rejection": RejectionSampling(**FAST, batch_size=4, epochs=2),
    "dpo": Dpo(**FAST, batch_size=5, epochs=2),
    "kto": Kto(**FAST, batch_size=5, epochs=2),
}


@pytest.mark.parametrize("micro", [1, 24, 40])
@pytest.mark.parametrize("name", ACCUMULATING)
def test_ragged_micro_batches_equal_one_big_batch(name, micro, buffer, tmp_path):
    algorithm = ACCUMULATING[name]
    whole, whole_metrics, result = run(algorithm, buffer, tmp_path / "whole")
    parts, parts_metrics, _ = run(algorithm, buffer, tmp_path / "parts", micro_batch_tokens=micro)
    assert result.steps == len(whole_metrics) >= 3
    assert result.examples % algorithm.batch_size
    assert_equal_parameters(whole, parts, rtol=0, atol=1e-9)
    for row, other in zip(whole_metrics, parts_metrics, strict=True):
        assert other.keys() == row.keys()
        for metric in row:
            assert other[metric] == pytest.approx(row[metric], rel=1e-6, abs=1e-9), metric


@pytest.mark.parametrize("micro", [1, 12, 20])
def test_the_kl_reference_of_kto_does_not_depend_on_micro_batches(micro, single_turn, tmp_path):
    algorithm = Kto(**FAST, batch_size=5, epochs=4, beta=1.0)
    whole, whole_metrics, _ = run(algorithm, single_turn, tmp_path / "whole", tiny_models(2))
    parts, parts_metrics, _ = run(algorithm, single_turn, tmp_path / "parts", tiny_models(2), micro_batch_tokens=micro)
    kl = [row["train/kl"] for row in whole_metrics]
    assert len({value for value in kl if value > 0}) > 3
    assert [row["train/kl"] for row in parts_metrics] == pytest.approx(kl, rel=1e-9)
    assert_equal_parameters(whole, parts, rtol=0, atol=1e-9)


@pytest.mark.parametrize("micro", [1, 7])
def test_a_micro_batch_without_a_loss_token_adds_nothing(micro, make_episode, tmp_path):
    episodes = [
        make_episode([-1, 0, 0, 0], [1.0], loss_mask=[False] * 4, tokens=[1, 2, 3, 4]),
        make_episode([-1, 0, 0, 0, 0, 0], [1.0], tokens=[5, 6, 7, 8, 9, 10]),
        make_episode([-1, 0], [1.0], tokens=[11, 12]),
        make_episode([-1, 0, 0], [1.0], loss_mask=[False] * 3, tokens=[13, 14, 15]),
    ]
    algorithm = Sft(**FAST, batch_size=4, epochs=3)
    whole, _, _ = run(algorithm, EpisodeBuffer(episodes), tmp_path / "whole")
    parts, metrics, _ = run(algorithm, EpisodeBuffer(episodes), tmp_path / "parts", micro_batch_tokens=micro)
    assert_equal_parameters(whole, parts, rtol=0, atol=1e-9)
    alone, alone_metrics, _ = run(algorithm, EpisodeBuffer(episodes[1:3]), tmp_path / "alone")
    assert_equal_parameters(alone, parts, rtol=0, atol=1e-9)
    for metric in ("train/loss", "train/entropy"):
        assert metrics[0][metric] == pytest.approx(alone_metrics[0][metric])


def test_a_step_without_any_loss_token_moves_nothing_and_goes_on(make_episode, tmp_path):
    masked = make_episode([-1, 0, 0], [1.0], loss_mask=[False] * 3)
    models, metrics, result = run(Sft(batch_size=1, epochs=2), EpisodeBuffer([masked]), tmp_path)
    assert_equal_parameters(models, tiny_models(), rtol=0, atol=0)
    assert result.steps == len(metrics) == 2
    assert "train/loss" not in metrics[0]


def test_training_is_adamw_on_the_clipped_gradient_of_each_network(buffer, tmp_path):
    """Three steps of a loop written by hand, on one batch of everything."""
    algorithm = Oreo(
        policy_lr=0.01, value_lr=0.02, max_grad_norm=0.01, weight_decay=0.1, warmup_ratio=0.5, epochs=3, batch_size=14
    )
    models, metrics, _ = run(algorithm, buffer, tmp_path)
    expected = tiny_models()
    networks = {"policy": (expected.policy, 0.01), "value": (expected.value, 0.02)}
    optimizers = {
        name: torch.optim.AdamW(network.parameters(), lr=1.0, betas=(0.9, 0.95), weight_decay=0.1)
        for name, (network, _) in networks.items()
    }
    factors = [1 / 3, 2 / 3, 1.0]  # ceil(3 steps * 0.5) = 2 of warm-up, then the top of the cosine
    for step, factor in enumerate(factors):
        losses = algorithm.losses(collate(list(buffer)), expected)
        assert metrics[step]["train/loss"] == pytest.approx(sum(term.item() for term in losses.terms.values()))
        for name, (network, rate) in networks.items():
            gradients = torch.autograd.grad(losses.terms[name], list(network.parameters()))
            norm = math.sqrt(sum(gradient.square().sum().item() for gradient in gradients))
            assert norm > 0.01
            assert metrics[step][f"train/{'' if name == 'policy' else 'value_'}grad_norm"] == pytest.approx(norm)
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter.grad = gradient * 0.01 / norm
            for group in optimizers[name].param_groups:
                group["lr"] = rate * factor
            optimizers[name].step()
    assert_equal_parameters(models, expected, rtol=0, atol=1e-6)  # torch divides by norm + 1e-6


# --- order of the data


@pytest.fixture
def batches(monkeypatch):
    """Episodes of every batch that the trainer makes, in order."""
    made = []
    original = trainer.collate

    def record(episodes, **fields):
        made.append(list(episodes))
        return original(episodes, **fields)

    monkeypatch.setattr(trainer, "collate", record)
    return made


def flat(batches):
    return [episode for batch in batches for episode in batch]


def test_every_epoch_sees_each_example_once_in_a_new_order(batches, buffer, tmp_path):
    run(Sft(batch_size=4, epochs=3), buffer, tmp_path)
    assert [len(batch) for batch in batches] == [4, 4, 4, 2] * 3
    epochs = [flat(batches[i : i + 4]) for i in (0, 4, 8)]
    assert all(Counter(map(id, epoch)) == Counter(map(id, buffer)) for epoch in epochs)
    orders = [[id(episode) for episode in epoch] for epoch in epochs]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_every_pass_of_the_value_warm_up_sees_each_example_once(batches, buffer, tmp_path):
    run(Oreo(batch_size=4, value_warmup_steps=6), buffer, tmp_path)
    assert [len(batch) for batch in batches] == [4, 4, 4, 2, 4, 4, *[4, 4, 4, 2]]
    for start in (0, 6):
        assert Counter(map(id, flat(batches[start : start + 4]))) == Counter(map(id, buffer))
    assert len(set(map(id, batches[4] + batches[5]))) == 8


def test_the_same_seed_gives_the_same_batches_and_another_seed_others(batches, buffer, tmp_path):
    runs = []
    for number, seed in enumerate([7, 7, 8]):
        run(Sft(batch_size=4), buffer, tmp_path / str(number), seed=seed)
        runs.append(list(batches))
        batches.clear()
    assert runs[0] == runs[1] != runs[2]


def test_neighbouring_seeds_share_no_epoch(batches, buffer, tmp_path):
    """seed + epoch would give epoch 1 of seed 0 the order of epoch 0 of seed 1."""
    for seed in (0, 1):
        run(Sft(batch_size=7, epochs=3), buffer, tmp_path / str(seed), seed=seed)
    assert len({frozenset(map(id, batch)) for batch in batches}) == 12


def test_the_same_seed_gives_the_same_bytes(buffer, tmp_path):
    first, first_metrics, _ = run(ACCUMULATING["oreo-token"], buffer, tmp_path / "first")
    second, second_metrics, _ = run(ACCUMULATING["oreo-token"], buffer, tmp_path / "second")
    assert_equal_parameters(first, second, rtol=0, atol=0)
    assert first_metrics == second_metrics


def test_what_networks_draw_is_told_by_the_seed_too(buffer, tmp_path):
    found = []
    for number, seed in enumerate([7, 7, 8]):
        torch.rand(number + 1)  # drawn by others before
        models = tiny_models()
        policy = models.policy
        score = policy.score
        drawn = []
        policy.score = lambda *given, score=score, drawn=drawn, **how: (
            drawn.append(torch.rand(1).item()) or score(*given, **how)
        )
        train(Sft(batch_size=4), models, buffer, TrainerConfig(seed=seed), tmp_path / str(number))
        found.append(drawn)
    assert len(found[0]) > 2 and found[0] == found[1] != found[2]


# --- schedule


def cosine(steps, warmup):
    """The schedule in closed form: a ramp that would reach 1 one step later, then half a cosine wave."""
    ramp = [(k + 1) / (warmup + 1) for k in range(warmup)]
    return ramp + [0.5 + 0.5 * math.cos(math.pi * k / (steps - warmup)) for k in range(steps - warmup)]


def test_the_learning_rate_follows_the_true_number_of_steps_to_almost_0(buffer, tmp_path):
    """14 examples in batches of 4 for 10 epochs are 40 steps; the paper's code counted epochs twice."""
    _, metrics, result = run(Sft(policy_lr=0.5, batch_size=4, epochs=10, warmup_ratio=0.1), buffer, tmp_path)
    assert result.steps == 40
    rates = [row["train/learning_rate"] for row in metrics]
    assert rates == pytest.approx([0.5 * factor for factor in cosine(40, warmup=4)])
    assert max(rates) == rates[4] == 0.5
    assert 0 < rates[-1] < 0.002 * 0.5
    assert [row["train/epoch"] for row in metrics] == pytest.approx([(k + 1) / 4 for k in range(40)])


def test_policy_and_value_have_their_own_horizon_under_a_value_warm_up(buffer, tmp_path):
    algorithm = Oreo(policy_lr=0.1, value_lr=0.2, batch_size=4, epochs=3, value_warmup_steps=8, warmup_ratio=0.25)
    _, metrics, result = run(algorithm, buffer, tmp_path)
    assert result.steps == 8 + 12
    value = [row["train/value_learning_rate"] for row in metrics]
    policy = [row["train/learning_rate"] for row in metrics[8:]]
    assert value == pytest.approx([0.2 * factor for factor in cosine(20, warmup=5)])
    assert policy == pytest.approx([0.1 * factor for factor in cosine(12, warmup=3)])
    assert all("train/learning_rate" not in row and row["train/epoch"] == 0 for row in metrics[:8])
    assert metrics[-1]["train/epoch"] == 3


def test_without_warm_up_the_first_step_has_the_full_rate(buffer, tmp_path):
    _, metrics, _ = run(Sft(policy_lr=0.5, batch_size=14, epochs=2, warmup_ratio=0.0), buffer, tmp_path)
    assert [row["train/learning_rate"] for row in metrics] == pytest.approx([0.5, 0.25])


# --- value warm-up


@pytest.mark.parametrize("moved", [False, True])
def test_value_warm_up_freezes_the_policy_bit_for_bit_and_trains_the_value(moved, buffer, tmp_path):
    models = tiny_models(moved=moved)
    history = [trained(models)]
    flags = [models.policy_is_reference]

    def snapshot(step):
        history.append(trained(models))
        flags.append(models.policy_is_reference)
        return {}

    algorithm = Oreo(**FAST, value_lr=0.01, weight_decay=0.1, batch_size=5, epochs=2, value_warmup_steps=4)
    run(algorithm, buffer, tmp_path, models, snapshot, evaluate_every=1)
    assert len(history) == 1 + 4 + 6
    for step, (before, after) in enumerate(itertools.pairwise(history)):
        for name, parameter in after.items():
            still = name.startswith("policy") and step < 4
            assert torch.equal(parameter, before[name]) == still, (step, name)
    assert flags == [not moved] * 5 + [False] * 6


def test_value_warm_up_is_the_same_with_and_without_the_shortcut(buffer, tmp_path):
    algorithm = Oreo(**FAST, value_lr=0.01, batch_size=5, value_warmup_steps=4)
    found = []
    for shortcut in (True, False):
        models = dataclasses.replace(tiny_models(moved=False), policy_is_reference=shortcut)
        found.append(run(algorithm, buffer, tmp_path / str(shortcut), models))
    assert_equal_parameters(found[0][0], found[1][0], rtol=0, atol=0)
    assert found[0][1] == found[1][1]


def test_the_reference_never_moves(buffer, tmp_path):
    for name, algorithm in ACCUMULATING.items():
        models = tiny_models()
        reference = models.reference
        run(algorithm, buffer, tmp_path / name, models)
        before = parameters(tiny_models().reference)
        assert all(torch.equal(before[key], p) for key, p in reference.named_parameters())


# --- what does not fit, and other errors


def test_examples_longer_than_the_context_are_counted_logged_and_skipped(batches, buffer, tmp_path, caplog):
    models = tiny_models()
    lengths = sorted(episode.num_tokens for episode in buffer)
    models.policy.max_length = lengths[9]
    fitting = sum(length <= lengths[9] for length in lengths)
    with caplog.at_level(logging.WARNING, logger="oreo_algos"):
        _, _, result = run(Sft(batch_size=14), buffer, tmp_path, models)
    assert (result.examples, result.skipped_too_long) == (fitting, 14 - fitting)
    assert caplog.messages == [
        f"{14 - fitting} of 14 examples are longer than the policy's context of {lengths[9]} tokens and are skipped"
    ]
    assert sorted(episode.num_tokens for episode in batches[0]) == lengths[:fitting]


def test_a_pair_is_too_long_when_one_of_the_two_is(make_episode, tmp_path):
    short, long = [-1, 0], [-1, 0, 0, 0]
    episodes = [
        make_episode(steps, [reward], task_id=task)
        for task, right, wrong in (("a", short, short), ("b", short, long), ("c", long, short))
        for steps, reward in ((right, 1.0), (wrong, 0.0))
    ]
    models = tiny_models()
    models.policy.max_length = 3
    _, metrics, result = run(Dpo(), EpisodeBuffer(episodes), tmp_path, models)
    assert (result.examples, result.skipped_too_long) == (1, 2)
    assert metrics[0]["train/num_tokens"] == 2 + 2


def test_num_tokens_adds_up_every_token_of_both_episodes_of_a_pair(single_turn, tmp_path):
    algorithm = Dpo(batch_size=4, epochs=2)
    pairs = algorithm.select(single_turn, np.random.default_rng(0))
    _, metrics, _ = run(algorithm, single_turn, tmp_path)
    assert metrics[-1]["train/num_tokens"] == 2 * sum(a.num_tokens + b.num_tokens for a, b in pairs)


def test_no_example_that_fits_is_an_error(buffer, tmp_path):
    models = tiny_models()
    models.policy.max_length = 1
    with pytest.raises(ValueError, match="all 14 examples are longer than the policy's context of 1 tokens"):
        run(Sft(), buffer, tmp_path, models)


@pytest.mark.parametrize(
    ("algorithm", "missing", "message"),
    [
        (Oreo(), "value", "Oreo needs a value network"),
        (Oreo(), "reference", "Oreo needs a reference network"),
        (Dpo(), "reference", "Dpo needs a reference network"),
        (Kto(), "reference", "Kto needs a reference network"),
    ],
)
def test_a_missing_network_is_an_error_before_anything_is_written(algorithm, missing, message, buffer, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(algorithm, buffer, tmp_path / "run", dataclasses.replace(tiny_models(), **{missing: None}))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("terms", "said"), [({"polcy": 1.0}, "polcy"), ({"value": 1.0}, "value"), ({}, "nothing")])
def test_a_loss_of_a_network_that_is_not_trained_is_refused(terms, said, buffer, tmp_path):
    class Misspelt(RejectionSampling):
        def losses(self, batch, models, context=None):
            zero = models.policy.score(batch).logprobs.sum() * 0
            return Losses({name: zero + number for name, number in terms.items()}, {})

    with pytest.raises(ValueError, match=f"Misspelt.losses returned terms of {said}; here are trained policy"):
        run(Misspelt(batch_size=4), buffer, tmp_path / "run", tiny_models())


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        (lambda logprobs: {"policy": logprobs.mean()}, "Wrong.losses returned dict, not Losses"),
        (lambda logprobs: Losses({"policy": logprobs}, {}), r"the term 'policy' has shape \[\d+, \d+\]; a term is"),
        (
            lambda logprobs: Losses({"policy": 0.5}, {}),
            "the term 'policy' is 0.5; a term is a tensor without dimensions",
        ),
        (lambda logprobs: Losses({"policy": logprobs.mean().detach()}, {}), "terms of policy without a gradient"),
    ],
)
def test_what_is_no_loss_is_refused_by_its_name(losses, said, buffer, tmp_path):
    class Wrong(RejectionSampling):
        def losses(self, batch, models, context=None):
            return losses(models.policy.score(batch).logprobs)

    with pytest.raises(ValueError, match=said):
        run(Wrong(), buffer, tmp_path, tiny_models())


def test_a_loss_that_is_not_finite_is_an_error_with_folder_step_and_mend(buffer, tmp_path):
    models = tiny_models()

    def break_value(step):
        if step == 2:
            models.value.head.bias.data.fill_(float("nan"))
        return {}

    said = r"run: the loss is nan at step 3; weights of the value are not finite \(head\.bias\): lower the learning ra"
    with pytest.raises(ValueError, match=said):
        run(Oreo(batch_size=4), buffer, tmp_path / "run", models, break_value, evaluate_every=1)
    assert [row["step"] for row in read_metrics(tmp_path / "run")] == [1, 2]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("checkpoint_every", 0, "checkpoint_every must be at least 1, got 0"),
        ("keep_checkpoints", 0, "keep_checkpoints must be at least 1, got 0"),
        ("micro_batch_tokens", 0, "micro_batch_tokens must be at least 1, got 0"),
        ("evaluate_every", -1, "evaluate_every must be at least 1, or 0 for never, got -1"),
    ],
)
def test_an_impossible_trainer_setting_is_refused(name, value, message):
    with pytest.raises(ValueError, match=message):
        TrainerConfig(**{name: value})


def test_networks_that_cannot_learn_from_the_episodes_are_refused(make_episode, tmp_path):
    models = tiny_models()
    episode = make_episode([-1, 0], [1.0], tokens=[1, 900_000])
    models.policy.vocabulary = 50
    with pytest.raises(ValueError, match=r"hold token 900000, and the policy knows 50 tokens.*`oreo data encode`"):
        train(Sft(), models, EpisodeBuffer([episode]), TrainerConfig(), tmp_path / "a")
    models.policy.tokenizer_fingerprint = "mine"
    other = EpisodeBuffer([make_episode([-1, 0], [1.0])], tokenizer_fingerprint="theirs")
    with pytest.raises(ValueError, match="encoded with tokenizer 'theirs', and the policy reads 'mine'"):
        train(Sft(), models, other, TrainerConfig(), tmp_path / "b")
    assert not list(tmp_path.iterdir())


def test_weights_that_are_trained_are_float32(make_episode, tmp_path):
    models = tiny_models()
    models.policy.to(torch.bfloat16)
    with pytest.raises(ValueError, match=r"the policy has trained weights of torch\.bfloat16.*train float32 weights"):
        train(Sft(), models, EpisodeBuffer([make_episode([-1, 0], [1.0])]), TrainerConfig(), tmp_path)
