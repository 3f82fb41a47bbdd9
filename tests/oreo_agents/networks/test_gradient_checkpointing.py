"""Layers that are computed again in the backward: equal numbers from less memory."""

import dataclasses
import gc
import pickle
import weakref
from collections.abc import Callable

import pytest
import torch
from tiny_models import draw_episodes, make_model
from torch import Tensor, nn
from transformers import AutoModelForTokenClassification

from oreo_agents.networks.adapters import Lora
from oreo_agents.networks.checkpoints import checkpoint_layers
from oreo_agents.networks.policy import CausalPolicy, PolicySettings
from oreo_agents.networks.value import TokenValue, ValueSettings
from oreo_agents.runs.loading import Loader
from oreo_algos import EpisodeBuffer
from oreo_algos.algos import Oreo
from oreo_algos.batch import collate


def make_policy(family: str, **options: object) -> CausalPolicy:
    return CausalPolicy(make_model(family), **options)


def make_value(family: str, **options: object) -> TokenValue:
    config = make_model(family).config
    config.num_labels, config.classifier_dropout = 1, 0.0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TokenValue(AutoModelForTokenClassification.from_config(config).eval(), **options)


def score(network: nn.Module) -> Tensor:
    batch = collate(draw_episodes(4))
    if isinstance(network, TokenValue):
        return network.token_values(batch).square().sum()
    return network.score(batch).logprobs.sum()


def step(network: nn.Module) -> tuple[dict[str, Tensor], int]:
    """Gradients, and bytes that are saved for the backward, parameters left out."""
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = score(network)
    loss.backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}, sum(saved.values())


@pytest.mark.parametrize(("family", "lora"), [("llama", None), ("llama", Lora(rank=2)), ("gpt2", None)])
@pytest.mark.parametrize("make", [make_policy, make_value])
def test_gradients_are_equal_and_less_is_held(make: Callable[..., nn.Module], family: str, lora: Lora | None):
    expected, much = step(make(family, lora=lora))
    found, little = step(make(family, lora=lora, gradient_checkpointing=True))
    assert little < much / 2
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, msg=name)


def test_dropout_stays_off_and_sampling_keeps_its_cache():
    plain, checkpointed = make_policy("gpt2"), make_policy("gpt2", gradient_checkpointing=True).train()
    assert torch.equal(score(plain), score(checkpointed))
    tokens = torch.tensor([[5, 6, 7]])
    answers = [policy.plain.generate(tokens, max_new_tokens=5, do_sample=False) for policy in (plain, checkpointed)]
    assert torch.equal(*answers)
    cache = checkpointed.plain(tokens, use_cache=True)[1]
    assert cache.get_seq_length() == 3


def test_a_frozen_copy_runs_its_own_layers():
    policy = make_policy("llama", gradient_checkpointing=True)
    reference = policy.frozen_copy()
    before = score(reference)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.5)
    assert torch.equal(score(reference), before)


def test_a_pickled_network_holds_as_little_and_says_the_same():
    policy = make_policy("llama", gradient_checkpointing=True)
    again = pickle.loads(pickle.dumps(policy))
    assert [type(layer).__name__ for layer in again.plain.model.layers] == ["LlamaDecoderLayer"] * 2
    (expected, held), (found, again_held) = step(policy), step(again)
    assert held == again_held
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())


@pytest.mark.parametrize("lora", [None, Lora(rank=2)])
@pytest.mark.parametrize("make", [make_policy, make_value])
def test_a_network_that_nobody_uses_is_gone_at_once(make: Callable[..., nn.Module], lora: Lora | None):
    gc.disable()
    try:
        network = make("llama", lora=lora, gradient_checkpointing=True)
        step(network)
        parts = [weakref.ref(part) for part in (*network.modules(), *network.parameters())]
        del network
        assert [type(part()).__name__ for part in parts if part() is not None] == []
    finally:
        gc.enable()


def test_a_model_without_such_layers_is_refused_or_left_as_it_is_with_a_warning(caplog: pytest.LogCaptureFixture):
    with pytest.raises(ValueError, match="Linear has no layers that transformers can checkpoint"):
        checkpoint_layers(nn.Linear(2, 2))
    for _ in range(2):
        checkpoint_layers(nn.Linear(2, 2), if_possible=True)
    (message,) = caplog.messages
    assert message.startswith("Linear has no layers that transformers can checkpoint: its updates hold all")


@pytest.mark.parametrize("network", ["policy", "value"])
def test_the_setting_of_a_run_reaches_its_network_and_no_other(network: str, checkpoint: Callable[[str], str]):
    path = checkpoint("llama")
    settings = {"policy": PolicySettings(device="cpu"), "value": ValueSettings()}
    plain = Loader(*settings.values())
    settings[network] = dataclasses.replace(settings[network], gradient_checkpointing=True)
    loader = Loader(*settings.values())
    models = [one.models(Oreo(), path, EpisodeBuffer(draw_episodes(2))) for one in (loader, plain)]
    for name in ("policy", "value"):
        (_, held), (_, usual) = (step(getattr(each, name)) for each in models)
        assert (held < usual / 2) == (name == network)


@pytest.mark.parametrize("make", [PolicySettings, ValueSettings])
def test_a_setting_that_is_neither_true_nor_false_is_refused(make: Callable[..., object]):
    with pytest.raises(ValueError, match=r"\.gradient_checkpointing must be true or false.*, got 'no'"):
        make(gradient_checkpointing="no")
    assert make(gradient_checkpointing="auto").gradient_checkpointing == "auto"


def test_auto_is_true_where_the_layers_can_be():
    expected, much = step(make_policy("llama"))
    found, little = step(make_policy("llama", gradient_checkpointing="auto"))
    assert little < much / 2
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())
