"""What every algorithm promises, and the two that are maximum likelihood."""

import numpy as np
import pytest
import torch
from tabular import sampled, tiny_models, with_twins

from oreo_algos import algos
from oreo_algos.batch import Batch, collate
from oreo_algos.models import Models, TokenScores
from oreo_algos.storage.buffer import EpisodeBuffer
from oreo_algos.training.micro_batches import episodes_of

ALGORITHMS = {
    "sft": algos.Sft(),
    "sft-observations": algos.Sft(observation_weight=0.25),
    "sft-more": algos.MoreSft(),
    "rejection": algos.RejectionSampling(),
    "dpo": algos.Dpo(),
    "dpo-ipo": algos.Dpo(loss_type="ipo"),
    "dpo-nll": algos.Dpo(nll_weight=0.7),
    "step-dpo": algos.Dpo(compared="step", nll_weight=0.7),
    "dqo": algos.Dqo(),
    "direct-advantage": algos.DirectAdvantage(),
    "implicit-prm": algos.ImplicitPrm(),
    "grpo": algos.Grpo(alpha=0.1),
    "grpo-alone": algos.Grpo(scale_by_deviation=False),
    "kto": algos.Kto(),
    "oreo-token": algos.Oreo(granularity="token"),
    "oreo-step": algos.Oreo(granularity="step"),
    "oreo-response": algos.Oreo(granularity="response"),
    "asymre": algos.AsymRe(),
    "asymre-state": algos.AsymRe(baseline="state", delta_v=0.0),
    "topr": algos.Topr(),
    "optimal-advantage": algos.OptimalAdvantage(beta=0.1),
    "optimal-advantage-behavior": algos.OptimalAdvantage(beta=0.1, anchor="behavior"),
    "awr": algos.AdvantageWeighted(),
    "iql": algos.AdvantageWeighted(granularity="step", expectile=0.7, trace=0.0),
    "oreo-options": algos.Oreo(
        granularity="step", consistency="full_gradient", importance_cap=1.0, positive_hinge=0.5, nll_weight=0.2
    ),
}

ABSTRACT = {algos.Algorithm, algos.EpisodeAlgorithm, algos.Losses}
KINDS = [kind for kind in (getattr(algos, name) for name in algos.__all__) if kind not in ABSTRACT]


@pytest.fixture(params=ALGORITHMS)
def algorithm(request):
    return ALGORITHMS[request.param]


@pytest.fixture
def buffer(random_episodes):
    return EpisodeBuffer(sampled(with_twins(random_episodes(12), 4)))


@pytest.fixture
def examples(algorithm, buffer):
    return algorithm.select(buffer, np.random.default_rng(0))


def has_gradient(network):
    return any(p.grad is not None and p.grad.any() for p in network.parameters())


def padded(algorithm, examples):
    return collate(episodes_of(examples), extra=algorithm.extra)


def in_one(episodes):
    return [collate(episodes)]


def run(algorithm, examples, models):
    return algorithm.losses(padded(algorithm, examples), models, algorithm.begin_step(examples, models, in_one))


# --- contract


def test_the_networks_that_an_algorithm_names_are_all_it_reads(algorithm, examples):
    models = tiny_models()
    for optional in {"reference", "value"} - algorithm.needs:
        setattr(models, optional, None)
    losses = run(algorithm, examples, models)
    held = isinstance(algorithm, algos.DirectAdvantage)  # its value learns in the warm-up
    assert set(losses.terms) == {"policy"} | (set() if held else algorithm.needs & {"value"})
    assert all(term.ndim == 0 for term in losses.terms.values())
    assert all(isinstance(value, float) for value in losses.metrics.values())


def test_each_term_reaches_its_own_network_and_no_other(algorithm, examples):
    models = tiny_models()
    terms = run(algorithm, examples, models).terms
    networks = {"policy": models.policy, "value": models.value, "reference": models.reference}
    for name, term in terms.items():
        for network in networks.values():
            network.zero_grad(set_to_none=True)
        term.backward(retain_graph=True)
        assert {key for key, network in networks.items() if has_gradient(network)} == {name}
        assert all(p.grad is not None for p in networks[name].parameters())


def test_more_padding_and_another_order_change_no_loss(algorithm, examples, make_episode):
    models = tiny_models()
    information = {"behavior_known": 1.0, "advantage": 0.0}
    [long] = sampled(
        [make_episode([-1, *range(60)], [1.0] * 60, tokens=[1] * 61, behavior_logprobs=np.zeros(61), info=information)]
    )
    wide = padded(algorithm, [*examples, long]).rows(slice(0, len(episodes_of(examples))))
    shuffled = padded(algorithm, [examples[i] for i in np.random.default_rng(1).permutation(len(examples))])
    context = algorithm.begin_step(examples, models, in_one)
    expected = algorithm.losses(padded(algorithm, examples), models, context)
    for batch in (wide, shuffled):
        found = algorithm.losses(batch, models, context)
        for name, term in expected.terms.items():
            assert found.terms[name].item() == pytest.approx(term.item(), rel=1e-12)
        assert found.metrics == pytest.approx(expected.metrics, rel=1e-9)


def test_micro_batches_weighted_by_their_weight_add_up_to_the_whole(algorithm, examples):
    models = tiny_models()
    whole = padded(algorithm, examples)
    parts = [padded(algorithm, examples[i : i + 3]) for i in range(0, len(examples), 3)]
    context = algorithm.begin_step(examples, models, in_one)
    weights = [algorithm.weight(part) for part in parts]
    assert sum(weights) == algorithm.weight(whole)
    expected = algorithm.losses(whole, models, context).terms
    losses = [algorithm.losses(part, models, context).terms for part in parts]
    for name, term in expected.items():
        mean = sum(w * part[name].item() for w, part in zip(weights, losses, strict=True)) / sum(weights)
        assert mean == pytest.approx(term.item(), rel=1e-12)


def test_the_same_generator_state_selects_the_same_examples(algorithm, buffer, examples):
    again = episodes_of(algorithm.select(buffer, np.random.default_rng(0)))
    assert all(one.equals(other) for one, other in zip(again, episodes_of(examples), strict=True))


@pytest.mark.parametrize("name", ["sft", "kto", "oreo-token", "asymre", "topr", "optimal-advantage", "awr"])
def test_an_empty_buffer_is_an_error_with_the_mend(name):
    with pytest.raises(ValueError, match="no episode, so there is nothing to learn from; collect or import some"):
        ALGORITHMS[name].select(EpisodeBuffer([]), np.random.default_rng(0))


# --- configurations

COMMON = [
    ("policy_lr", 0.0, r"policy_lr must be > 0, got 0\.0"),
    ("policy_lr", float("nan"), "policy_lr must be a number, got nan"),
    ("epochs", 0, "epochs must be > 0, got 0"),
    ("batch_size", -1, "batch_size must be > 0, got -1"),
    ("max_grad_norm", 0, "max_grad_norm must be > 0, got 0"),
    ("warmup_ratio", 1.0, r"warmup_ratio must be in \[0, 1\), got 1\.0"),
    ("warmup_ratio", -0.1, r"warmup_ratio must be in \[0, 1\), got -0\.1"),
    ("weight_decay", -1, "weight_decay must not be negative, got -1"),
]
OWN = [
    (algos.Sft, "observation_weight", -0.1, r"observation_weight must be in \[0, 1\], got -0\.1"),
    (algos.Sft, "observation_weight", 1.5, r"observation_weight must be in \[0, 1\], got 1\.5"),
    (algos.Sft, "observation_weight", float("nan"), "observation_weight must be a number, got nan"),
    (algos.MoreSft, "samples", 0, "MoreSft.samples must be > 0, got 0"),
    (algos.MoreSft, "samples", 1.5, r"MoreSft.samples must be a whole number, got 1\.5"),
    (algos.Dpo, "beta", 0, "Dpo.beta must be > 0, got 0"),
    (algos.Dpo, "max_pairs", 0, "Dpo.max_pairs must be > 0, got 0"),
    (algos.Dpo, "loss_type", "IPO", "Dpo.loss_type must be one of sigmoid, hinge, ipo, got 'IPO'"),
    (algos.Dpo, "label_smoothing", 0.5, r"Dpo.label_smoothing must be in \[0, 0.5\), got 0.5"),
    (algos.Dpo, "nll_weight", -1, "Dpo.nll_weight must not be negative, got -1"),
    (algos.Dpo, "shared_steps", -1, "Dpo.shared_steps must not be negative, got -1"),
    (algos.Dpo, "compared", "steps", "Dpo.compared must be one of rest, step, got 'steps'; did you mean 'step'"),
    (algos.DirectAdvantage, "beta", 0, "DirectAdvantage.beta must be > 0, got 0"),
    (algos.DirectAdvantage, "value_lr", 0, "DirectAdvantage.value_lr must be > 0, got 0"),
    (algos.DirectAdvantage, "granularity", "line", "DirectAdvantage.granularity must be one of token, step, response"),
    (
        algos.DirectAdvantage,
        "value_warmup_steps",
        -1,
        "DirectAdvantage.value_warmup_steps must not be negative, got -1",
    ),
    (algos.ImplicitPrm, "beta", 0, "ImplicitPrm.beta must be > 0, got 0"),
    (algos.Grpo, "clip", 1, r"Grpo.clip must be in \(0, 1\), got 1"),
    (algos.Grpo, "alpha", -0.1, r"Grpo.alpha must not be negative, got -0\.1"),
    (algos.Dqo, "beta", 0, "Dqo.beta must be > 0, got 0"),
    (algos.Dqo, "trace", 1.5, r"Dqo.trace must be in \[0, 1\], got 1.5"),
    (algos.Dqo, "value_warmup_steps", -1, "Dqo.value_warmup_steps must not be negative, got -1"),
    (algos.Kto, "beta", -1, "Kto.beta must be > 0, got -1"),
    (algos.Kto, "desirable_weight", 0, "Kto.desirable_weight must be > 0, got 0"),
    (algos.Kto, "undesirable_weight", -2, "Kto.undesirable_weight must be > 0, got -2"),
    (
        algos.AsymRe,
        "baseline",
        "states",
        "AsymRe.baseline must be a number or one of data, question, state, got 'states'; did",
    ),
    (algos.AsymRe, "baseline", None, "AsymRe.baseline must be a number or one of data, question, state, got None"),
    (algos.AsymRe, "delta_v", float("inf"), "AsymRe.delta_v must be finite, got inf"),
    (algos.Topr, "baseline", "state", "Topr.baseline must be a number or one of data, question, got 'state'"),
    (
        algos.ConstantBaseline,
        "baseline",
        "task",
        "ConstantBaseline.baseline must be a number or one of question, state or null",
    ),
    (
        algos.OptimalAdvantage,
        "anchor",
        "behaviour",
        "anchor must be one of reference, behavior, got .*; did you mean 'behavior'",
    ),
    (algos.Oreo, "value_lr", 0, "Oreo.value_lr must be > 0, got 0"),
    (algos.Oreo, "beta", 0, "Oreo.beta must be > 0, got 0"),
    (algos.Oreo, "alpha", -1, "alpha and value_warmup_steps must not be negative, got -1 and 0"),
    (algos.Oreo, "value_warmup_steps", -3, r"alpha and value_warmup_steps must not be negative, got 0\.01 and -3"),
    (algos.Oreo, "granularity", "tokens", "granularity must be one of token, step, response, .*; did you mean 'token'"),
    (algos.Oreo, "kl", "exakt", "kl must be one of exact, k3, forward, got 'exakt'; did you mean 'exact'"),
    (algos.Oreo, "kl", None, "kl must be one of exact, k3, forward, got None$"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "value", "message"), COMMON)
def test_an_impossible_optimisation_setting_is_refused(kind, name, value, message):
    with pytest.raises(ValueError, match=message):
        kind(**{name: value})


@pytest.mark.parametrize(("kind", "name", "value", "message"), OWN)
def test_an_impossible_setting_is_refused_when_it_is_made(kind, name, value, message):
    with pytest.raises(ValueError, match=message):
        kind(**{name: value})


def test_the_defaults_are_those_of_the_paper():
    """Paper facts, section 3: batch 128, 3% warm-up, no weight decay, and the rates and epochs of each."""
    for algorithm in ALGORITHMS.values():
        assert (algorithm.batch_size, algorithm.warmup_ratio, algorithm.weight_decay) == (128, 0.03, 0.0)
    rates = {
        kind.__name__: (kind().policy_lr, kind().epochs)
        for kind in (algos.Sft, algos.RejectionSampling, algos.Dpo, algos.Kto, algos.Oreo)
    }
    assert rates == {
        "Sft": (2e-5, 3),
        "RejectionSampling": (5e-6, 1),
        "Dpo": (5e-7, 1),
        "Kto": (5e-8, 1),
        "Oreo": (5e-6, 1),
    }
    assert (algos.Dpo().beta, algos.Dpo().max_pairs) == (0.1, 6)
    oreo = algos.Oreo()
    assert (oreo.value_lr, oreo.beta, oreo.alpha, oreo.kl) == (5e-6, 0.03, 0.01, "exact")


# --- maximum likelihood


def test_sft_is_the_mean_surprise_of_the_tokens_to_imitate(buffer):
    models = tiny_models()
    surprise = []
    for episode in buffer:
        mask = np.ones(episode.num_tokens, bool) if episode.loss_mask is None else episode.loss_mask
        for t in np.flatnonzero((episode.step_id >= 0) & mask):
            prefix = torch.tensor(episode.tokens[None, :t], dtype=torch.long)
            surprise.append(-models.policy.logits(prefix)[0, -1].log_softmax(-1)[episode.tokens[t]].item())
    batch = collate(list(buffer))
    assert algos.Sft().weight(batch) == len(surprise)
    assert algos.Sft().losses(batch, models).terms["policy"].item() == pytest.approx(np.mean(surprise), rel=1e-12)


# Columns: the prompt's two tokens, an action of two of which one is a mistake, an observation, an action, padding.
STEP_ID = [[-1, -1, 0, 0, -1, 1, -1], [-1, 0, -1, -1, -1, -1, -1]]
LOSS_MASK = [[0, 0, 1, 0, 0, 1, 0], [0, 1, 0, 0, 0, 0, 0]]
ATTENTION = [[1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0, 0]]
LOGPROBS = [[-9.0, -1.0, -2.0, -16.0, -3.0, -4.0, -32.0], [-9.0, -5.0, -6.0, -32.0, -32.0, -32.0, -32.0]]


class Said:
    """A policy that says what it was told of these rows, where it is asked, and remembers where that was."""

    def __init__(self, rows):
        """Remember the rows."""
        self.rows = rows

    def score(self, batch):
        self.asked = batch.action_mask
        return TokenScores(torch.tensor(LOGPROBS)[self.rows].masked_fill(~batch.action_mask, 0))


def told(rows=slice(None)):
    batch = Batch(
        tokens=torch.ones(2, 7, dtype=torch.long),
        step_id=torch.tensor(STEP_ID),
        loss_mask=torch.tensor(LOSS_MASK).bool(),
        attention=torch.tensor(ATTENTION).bool(),
        rewards=torch.zeros(2, 2),
        step_mask=torch.tensor([[True, True], [True, False]]),
        success=torch.tensor([True, True]),
    )
    return batch.rows(rows), Models(policy=Said(rows))


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_the_observation_weight_is_that_of_tokens_that_are_no_action(weight):
    """By hand: imitated are -2, -4, -5; observed -1, -3, -6; neither the mistake, nor first tokens, nor padding."""
    batch, models = told()
    sft = algos.Sft(observation_weight=weight)
    assert sft.weight(batch) == 3 + 3 * weight
    losses = sft.losses(batch, models)
    assert losses.terms["policy"].item() == pytest.approx((11 + 10 * weight) / (3 + 3 * weight), rel=1e-6)
    assert losses.metrics == pytest.approx({"nll/actions": 11 / 3, "nll/observations": 10 / 3})


def test_an_observation_weight_of_0_is_imitation_alone():
    batch, models = told()
    assert algos.Sft().weight(batch) == batch.num_loss_tokens == 3
    losses = algos.Sft().losses(batch, models)
    assert losses.terms["policy"].item() == pytest.approx(11 / 3) and losses.metrics == {}
    assert torch.equal(models.policy.asked, batch.action_mask), "no more is computed than actions need"


def test_metrics_of_observations_are_means_over_their_tokens_whatever_the_micro_batches():
    sft = algos.Sft(observation_weight=0.5)
    whole = sft.losses(*told()).metrics
    parts = [sft.losses(*told([row])).metrics for row in (0, 1)]
    for name in ("nll/actions", "nll/observations"):
        assert [part[name].count for part in parts] == [2, 1]
        assert sum(part[name] * part[name].count for part in parts) / 3 == pytest.approx(whole[name])


def test_an_episode_without_an_action_to_imitate_still_teaches_what_is_observed(make_episode):
    """All of its actions are mistakes."""
    episode = make_episode([-1, -1, 0, -1], [0.0], loss_mask=np.zeros(4, bool))
    sft = algos.Sft(observation_weight=0.5)
    losses = sft.losses(collate([episode]), tiny_models())
    assert sft.weight(collate([episode])) == 1.0
    assert "nll/actions" not in losses.metrics and "entropy" not in losses.metrics
    assert losses.terms["policy"].item() == pytest.approx(losses.metrics["nll/observations"])
    with pytest.raises(ValueError, match="there is no token to imitate"):
        algos.Sft().losses(collate([episode]), tiny_models())


def test_rejection_sampling_is_sft_on_the_successful_episodes(buffer):
    models = tiny_models()
    kept = algos.RejectionSampling().select(buffer, np.random.default_rng(0))
    assert list(kept) == [episode for episode in buffer if episode.success]
    assert 0 < len(kept) < len(buffer)
    loss = algos.RejectionSampling().losses(collate(kept), models).terms["policy"]
    assert loss.item() == algos.Sft().losses(collate(kept), models).terms["policy"].item()


def test_rejection_sampling_without_a_success_is_an_error_with_the_mend(make_episode):
    failures = EpisodeBuffer(make_episode([-1, 0], [0.0]) for _ in range(3))
    with pytest.raises(ValueError, match=r"none of the 3 episodes .* succeeded.*; collect more samples"):
        algos.RejectionSampling().select(failures, np.random.default_rng(0))


def test_dpo_without_a_task_of_both_outcomes_is_an_error_with_the_mend(make_episode):
    buffer = EpisodeBuffer([make_episode([-1, 0], [1.0], task_id="a"), make_episode([-1, 0], [0.0], task_id="b")])
    with pytest.raises(ValueError, match=r"none of the 2 tasks .* no preference pairs; collect more samples a task"):
        algos.Dpo().select(buffer, np.random.default_rng(0))
