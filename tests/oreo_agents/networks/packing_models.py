"""Models that packing tells apart, and what they say of each document alone."""

from typing import Any

import torch
from tiny_models import make_model
from torch import Tensor
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from oreo_agents.networks.checkpoints import base_model
from oreo_algos.batch import Batch

SHAPE: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 1,
}


def build(family: str, *, window: int = 64) -> PreTrainedModel:
    """The models of the other tests, and some that only packing tells apart."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        match family:
            case "qwen3":
                return Qwen3ForCausalLM(Qwen3Config(**SHAPE)).eval()
            case "mistral":
                return MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=window)).eval()
            case "gemma3":
                kinds = ["sliding_attention", "full_attention"]
                config = Gemma3TextConfig(**SHAPE, sliding_window=window, layer_types=kinds, query_pre_attn_scalar=3)
                return Gemma3ForCausalLM(config).eval()
            case "bloom":
                return BloomForCausalLM(BloomConfig(vocab_size=300, hidden_size=16, n_layer=2, n_head=2)).eval()
            case "mamba":
                return MambaForCausalLM(MambaConfig(vocab_size=300, hidden_size=16, num_hidden_layers=2)).eval()
    return make_model(family)


def weights_of(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def alone(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Trunk outputs of each document by itself, one after another; the model is asked as transformers delivers it."""
    trunk = base_model(model)
    rows = zip(batch.tokens, batch.attention, strict=True)
    return torch.cat([trunk(tokens[real][None], use_cache=False)[0][0] for tokens, real in rows])
