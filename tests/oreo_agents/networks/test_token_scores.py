"""Scores without logits against the plain formulas: values, gradients, and what is held for the backward."""

import weakref

import pytest
import torch
from tiny_models import draw_episodes, make_model
from torch import Tensor
from torch.nn import functional as F

from oreo_agents.networks import token_scores
from oreo_agents.networks.adapters import Lora
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.token_scores import HeadInput, head_scores, logit_scores
from oreo_algos.batch import collate

ESTIMATES = ("exact", "forward", "k3", None)
NAMES = ("logprobs", "ref_logprobs", "kl", "entropy")


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tiles in both directions, the last of each smaller than the others."""
    monkeypatch.setattr(token_scores, "_CPU_TILE", (4, 40))


def draw(
    tokens: int = 11, hidden: int = 5, vocabulary: int = 37, *, bias: bool = True, dtype: torch.dtype = torch.float64
) -> tuple[HeadInput, HeadInput, Tensor]:
    """Policy, reference and targets; distributions far from uniform and from each other."""
    generator = torch.Generator().manual_seed(0)

    def tensor(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    policy, reference = (
        HeadInput(tensor(tokens, hidden), tensor(vocabulary, hidden), tensor(vocabulary) if bias else None)
        for _ in range(2)
    )
    for leaf in leaves(policy):
        leaf.requires_grad_()
    return policy, reference, torch.randint(vocabulary, (tokens,), generator=generator)


def leaves(head: HeadInput) -> list[Tensor]:
    return [tensor for tensor in (head.features, head.weight, head.bias) if tensor is not None]


def plain(policy: HeadInput, targets: Tensor, reference: HeadInput | None, kl: str | None) -> token_scores.Scores:
    """The same with whole matrices of logits."""

    def logp(head: HeadInput) -> Tensor:
        logits = F.linear(head.features, head.weight, head.bias)
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)

    ref = None if reference is None else logp(reference).detach()
    return logit_scores(logp(policy), ref, targets, kl)


def gradients(scores: token_scores.Scores, policy: HeadInput) -> list[Tensor]:
    """Of a loss in which every token has another weight, and the KL another than the log-probability."""
    weights = torch.linspace(-1, 2, len(scores[0]), dtype=scores[0].dtype)
    loss = (scores[0] * weights).sum()
    if scores[2] is not None:
        loss = loss + (scores[2] * weights.flip(0).square()).sum()
    return list(torch.autograd.grad(loss, leaves(policy)))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kl", ESTIMATES)
def test_values_and_gradients_are_those_of_the_plain_formulas(kl: str | None, bias: bool):
    policy, reference, targets = draw(bias=bias)
    found = head_scores(policy, targets, reference, kl)
    expected = plain(policy, targets, reference, kl)
    for name, one, other in zip(NAMES, found, expected, strict=True):
        torch.testing.assert_close(one, other, msg=name)
    for one, other in zip(gradients(found, policy), gradients(expected, policy), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kl", ESTIMATES)
def test_gradients_are_those_of_finite_differences(kl: str | None):
    policy, reference, targets = draw(tokens=6, hidden=3, vocabulary=13)

    def scores(features: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        found = head_scores(HeadInput(features, weight, bias), targets, reference, kl)
        return tuple(found[index] for index in (0, 2) if found[index] is not None)

    assert torch.autograd.gradcheck(scores, tuple(leaves(policy)))


def test_without_a_reference_there_is_only_the_policy():
    policy, _, targets = draw()
    logprobs, ref_logprobs, kl, entropy = head_scores(policy, targets)
    assert ref_logprobs is None and kl is None
    assert logprobs.requires_grad and not entropy.requires_grad


def test_a_kl_without_gradient_costs_no_reference_in_the_backward(monkeypatch: pytest.MonkeyPatch):
    policy, reference, targets = draw()
    found = head_scores(policy, targets, reference, "exact")
    heads = []
    monkeypatch.setattr(
        token_scores,
        "_logit_gradient",
        lambda *args, real=token_scores._logit_gradient: heads.append(args[1]) or real(*args),
    )
    found[0].sum().backward()
    assert heads and not any(heads)


@pytest.mark.parametrize(("kl", "kept"), [("exact", True), ("forward", True), ("k3", False), (None, False)])
def test_the_reference_is_kept_for_a_backward_that_reads_it_only(kl: str | None, kept: bool):
    policy, reference, targets = draw()
    features = weakref.ref(reference.features)
    found = head_scores(policy, targets, reference, kl)
    del reference
    assert (features() is not None) == kept
    assert found[0].requires_grad


@pytest.mark.parametrize("size", [36, 38])
@pytest.mark.parametrize("kl", ESTIMATES)
def test_a_reference_of_another_vocabulary_is_refused(kl: str | None, size: int):
    policy, _, targets = draw()
    other = draw(vocabulary=size)[1]
    for score in (head_scores, plain):
        arguments = (policy, targets, other, kl)
        with pytest.raises(ValueError, match=f"among 37 tokens, the reference among {size}; .*resize_token_embeddings"):
            score(*arguments)


def test_tokens_that_are_ruled_out_are_no_error():
    """Whole tiles of them, the first and the last among these."""
    policy, _, targets = draw(bias=False)
    targets = 12 + targets % 12
    bias = torch.full((37,), float("-inf")).double()
    bias[12:24] = 0.5
    policy = HeadInput(policy.features, policy.weight, bias)
    found = head_scores(policy, targets)[0]
    expected = F.linear(policy.features, policy.weight, bias).log_softmax(-1).gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(found, expected)
    inputs = (policy.features, policy.weight)
    for one, other in zip(*(torch.autograd.grad(x.sum(), inputs) for x in (found, expected)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("tokens", "vocabulary"), [(2048, 16), (8, 2048)])
def test_gradients_of_half_precision_are_summed_in_float32(
    tokens: int, vocabulary: int, monkeypatch: pytest.MonkeyPatch
):
    """That of the head over many tiles of rows, that of its input over many of columns."""
    monkeypatch.setattr(token_scores, "_CPU_TILE", (8, 128))
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(tokens, 4, generator=generator).bfloat16().requires_grad_()
    weight = torch.rand(vocabulary, 4, generator=generator).bfloat16().requires_grad_()
    targets = torch.zeros(tokens, dtype=torch.long)
    found = torch.autograd.grad(head_scores(HeadInput(features, weight), targets)[0].sum(), (features, weight))
    exact = [x.detach().float().requires_grad_() for x in (features, weight)]
    logprobs = F.linear(*exact).log_softmax(-1)[:, 0]
    for one, other in zip(found, torch.autograd.grad(logprobs.sum(), exact), strict=True):
        assert one.dtype == torch.bfloat16
        assert (one.float() - other).norm() < 0.006 * other.norm()


def test_no_token_is_no_error():
    policy, reference, _ = draw(tokens=0)
    found = head_scores(policy, torch.zeros(0, dtype=torch.long), reference, "exact")
    assert [len(column) for column in found if column is not None] == [0, 0, 0, 0]
    assert not any(gradient.any() for gradient in gradients(found, policy))


def test_equal_networks_are_exactly_equal_whatever_their_logits():
    policy, _, targets = draw(dtype=torch.float32)
    big = HeadInput(policy.features * 30, policy.weight, policy.bias)
    logprobs, ref_logprobs, kl, _ = head_scores(big, targets, big, "exact")
    assert ref_logprobs is not None and kl is not None
    assert torch.equal(logprobs, ref_logprobs)
    assert not kl.any()


def test_a_small_kl_is_right_to_the_rounding_of_one_log_probability():
    """It is a difference of two log-normalisers that are a million times larger."""
    policy, _, targets = draw(tokens=50, vocabulary=500)
    near = HeadInput(policy.features * 1.001 + 3, policy.weight, policy.bias)
    base = HeadInput(policy.features + 3, policy.weight, policy.bias)
    expected = plain(near, targets, base, "exact")[2]
    single = [HeadInput(*(x.detach().float() for x in leaves(head))) for head in (near, base)]
    found = head_scores(single[0], targets, single[1], "exact")[2]
    assert expected is not None and found is not None
    assert expected.mean() < 1e-5
    assert (found - expected).abs().mean() < 4e-7


@pytest.mark.parametrize("autocast", [True, False])
def test_bfloat16_is_no_further_from_float32_than_the_plain_way(autocast: bool):
    policy, reference, targets = draw(tokens=64, hidden=32, vocabulary=200, bias=False, dtype=torch.float32)
    exact = gradients(plain(policy, targets, reference, "exact"), policy)
    values = plain(policy, targets, reference, "exact")
    if not autocast:
        policy, reference = (HeadInput(h.features.bfloat16(), h.weight.bfloat16()) for h in (policy, reference))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        found, usual = head_scores(policy, targets, reference, "exact"), plain(policy, targets, reference, "exact")
    for one, other, right in zip(found, usual, values, strict=True):
        assert one is not None and other is not None and right is not None
        assert one.dtype == torch.float32
        assert (one - right).abs().mean() <= 1.1 * (other - right).abs().mean()
    columns = (gradients(found, policy), gradients(usual, policy), exact)
    for leaf, one, other, right in zip(leaves(policy), *columns, strict=True):
        assert one.dtype == leaf.dtype
        assert (one.float() - right).norm() <= 1.1 * (other.float() - right).norm()


def held(work) -> int:
    """Elements that autograd saves for the backward of what ``work`` returns, all but parameters."""
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not tensor.is_leaf:
            saved[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        work()
    return sum(saved.values())


def test_what_is_held_for_the_backward_does_not_grow_with_the_vocabulary():
    sizes = []
    for vocabulary in (50, 500):
        policy, reference, targets = draw(tokens=20, vocabulary=vocabulary)
        features = HeadInput(policy.features * 1, policy.weight, policy.bias)
        sizes.append(held(lambda f=features, t=targets, r=reference: head_scores(f, t, r, "exact")))
        assert held(lambda f=features, t=targets, r=reference: plain(f, t, r, "exact")) > 2 * 20 * vocabulary
    assert sizes[0] == sizes[1] < 20 * 50


def test_no_buffer_has_the_size_of_tokens_times_vocabulary(monkeypatch: pytest.MonkeyPatch):
    policy, reference, targets = draw(tokens=40, vocabulary=90)
    largest = []
    real = token_scores._Tiles

    def make(*args: object, buffers: int) -> token_scores._Tiles:
        tiles = real(*args, buffers=buffers)
        largest.append(tiles.memory[0].numel())
        return tiles

    monkeypatch.setattr(token_scores, "_Tiles", make)
    gradients(head_scores(policy, targets, reference, "exact"), policy)
    assert largest == [40, 40]


def test_tied_embeddings_get_the_gradients_of_both_their_uses():
    model = make_model("llama")
    model.config.tie_word_embeddings = True
    model.tie_weights()
    policy = CausalPolicy(model)
    batch = collate(draw_episodes(3))
    assert policy.plain.get_output_embeddings().weight is policy.plain.get_input_embeddings().weight
    policy.score(batch).logprobs.sum().backward()
    weight = policy.plain.get_input_embeddings().weight
    found, weight.grad = weight.grad, None
    logp = policy.plain(batch.tokens).logits[:, :-1].log_softmax(-1)
    chosen = logp.gather(-1, batch.tokens[:, 1:, None]).squeeze(-1)
    (chosen * batch.action_mask[:, 1:]).sum().backward()
    torch.testing.assert_close(found, weight.grad, atol=1e-4, rtol=1e-4)


def test_a_frozen_head_gets_no_gradient_and_adapters_get_theirs():
    policy = CausalPolicy(make_model("llama"), Lora(rank=2))
    batch = collate(draw_episodes(3))
    policy.score(batch).logprobs.sum().backward()
    found = {name: p.grad for name, p in policy.named_parameters() if p.requires_grad}
    assert policy.plain.get_output_embeddings().weight.grad is None
    assert all(gradient is not None for gradient in found.values())
    assert any(gradient.any() for gradient in found.values() if gradient is not None)


def test_without_a_gradient_nothing_is_held():
    policy, reference, targets = draw()
    with torch.no_grad():
        assert held(lambda: head_scores(policy, targets, reference, "exact")) == 0
