"""Under autocast each weight is cast once for a whole loop of reads, whether it is trained or not."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import make_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForTokenClassification

from oreo_agents.episodes.generate import Sampling, generate
from oreo_agents.episodes.sources import row_source
from oreo_agents.networks import checkpoints
from oreo_agents.networks.adapters import Lora
from oreo_agents.networks.checkpoints import cast_once
from oreo_agents.networks.kv_cache import Prefix
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import TokenValue
from oreo_agents.search.player import Player

PROMPTS = [[5, 6, 7], [8, 9, 10, 11], [5, 6, 7]]
NEW_TOKENS = 20


class Casts(TorchDispatchMode):
    """How often each parameter of a network is cast."""

    def __init__(self, network: nn.Module) -> None:
        """Count none yet."""
        super().__init__()
        self.names = {parameter.data_ptr(): name for name, parameter in network.named_parameters()}
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See ``TorchDispatchMode``."""
        if function is torch.ops.aten._to_copy.default and args[0].data_ptr() in self.names:
            self.counts[self.names[args[0].data_ptr()]] += 1
        return function(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `in_bfloat16` sets is set back."""
    monkeypatch.setattr(checkpoints, "_BFLOAT16_ON", {"cuda"})


def in_bfloat16() -> None:
    """Compute as on a GPU; networks are made before, whose checks know what to expect of a CPU."""
    checkpoints._BFLOAT16_ON = {"cpu"}


def make_policy(lora: Lora | None, family: str = "llama") -> CausalPolicy:
    policy = CausalPolicy(make_model(family), lora)
    assert policy.reads_slowly is None  # tried before anything is counted
    in_bfloat16()
    return policy


def make_value(lora: Lora | None) -> TokenValue:
    config = make_model("llama").config
    config.num_labels = 1
    value = TokenValue(AutoModelForTokenClassification.from_config(config), lora)
    assert value.resumes
    in_bfloat16()
    return value


def seeded() -> list[np.random.Generator]:
    return [row_source(0, index, 0) for index in range(len(PROMPTS))]


def trained(network: nn.Module) -> list[bool]:
    return [parameter.requires_grad for parameter in network.parameters()]


@pytest.mark.parametrize("lora", [None, Lora(rank=2)])
def test_a_sampling_loop_casts_each_weight_once(lora: Lora | None):
    policy = make_policy(lora)
    before = trained(policy)
    with Casts(policy) as casts:
        (first, *_) = generate(policy, PROMPTS, [], Sampling(max_new_tokens=NEW_TOKENS), sources=seeded())
    assert len(first.tokens) == NEW_TOKENS
    assert len(casts.counts) >= 15 and set(casts.counts.values()) == {1}
    assert trained(policy) == before


def test_what_is_sampled_is_what_casting_at_each_token_gives():
    policy = make_policy(Lora(rank=2))
    sampling = Sampling(max_new_tokens=NEW_TOKENS, temperature=0.7)
    once = generate(policy, PROMPTS, [], sampling, sources=seeded())
    torch.set_autocast_cache_enabled(False)
    try:
        each = generate(policy, PROMPTS, [], sampling, sources=seeded())
    finally:
        torch.set_autocast_cache_enabled(True)
    assert [(one.tokens, one.logprobs) for one in once] == [(one.tokens, one.logprobs) for one in each]


@pytest.mark.parametrize("lora", [None, Lora(rank=2)])
def test_v_of_many_states_casts_each_weight_once(lora: Lora | None):
    """In two readings, each of two batches: what is new of the records, and what follows them."""
    value = make_value(lora)
    player: Any = SimpleNamespace(value=value, sampling=Sampling(batch_size=2))
    player._read = lambda *arguments: Player._read(player, *arguments)
    records: Any = [SimpleNamespace(tokens=prompt, value_cache=Prefix()) for prompt in PROMPTS]
    with Casts(value) as casts:
        Player.judge(player, records, [[12], [13, 14], [15]])
    assert len(casts.counts) >= 14 and set(casts.counts.values()) == {1}


def test_weights_may_change_between_loops_and_an_error_leaves_them_as_they_were():
    policy = make_policy(Lora(rank=2))
    before = trained(policy)
    with pytest.raises(RuntimeError, match="stop"), cast_once(policy):
        assert all(trained(policy))
        raise RuntimeError("stop")
    assert trained(policy) == before
    said = []
    for _ in range(2):
        (sample, *_) = generate(policy, PROMPTS, [], Sampling(max_new_tokens=2, temperature=0))
        said.append(sample.logprobs)
        with torch.no_grad():
            policy.plain.get_output_embeddings().weight.mul_(0.5)
    assert said[0] != said[1]
