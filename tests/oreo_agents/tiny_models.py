"""Models of a few thousand random weights, of several architectures, and episodes for them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from oreo_agents.networks.tiny import byte_tokenizer
from oreo_algos.episode import Episode

VOCABULARY = 300
PLAIN_HEADS = ("llama", "qwen2", "gpt2")
# Cohere scales its logits, Gemma 2 caps them.
OTHER_HEADS = ("cohere", "gemma2")

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Numbers each message by how many there are, as templates that move old reasoning do.
FORGETFUL = CHATML.replace("{{ message.role }}\n", "{{ message.role }} {{ messages | length }}\n")

TEXTS = ["Tom has 21 marbles. 21 + 5 = 26\n#### 26", "Größe ∑ 😀", "a b c\n\nd e f. "]


def make_model(
    family: str, *, seed: int = 0, context: int = 64, init_std: float = 0.3, vocabulary: int = VOCABULARY
) -> PreTrainedModel:
    """Random weights that are large enough for the distributions to be far from uniform."""
    shape: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": context,
        "initializer_range": init_std,
        "bos_token_id": None,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        match family:
            case "llama":
                return LlamaForCausalLM(LlamaConfig(**shape)).eval()
            case "qwen2":
                return Qwen2ForCausalLM(Qwen2Config(**shape)).eval()
            case "gemma2":
                return Gemma2ForCausalLM(Gemma2Config(**shape, head_dim=8, final_logit_softcapping=3.0)).eval()
            case "cohere":
                return CohereForCausalLM(CohereConfig(**shape)).eval()
            case "gpt2":
                config = GPT2Config(
                    vocab_size=vocabulary,
                    n_embd=16,
                    n_layer=2,
                    n_head=2,
                    n_positions=context,
                    initializer_range=init_std,
                    bos_token_id=None,
                    eos_token_id=2,
                )
                return GPT2LMHeadModel(config).eval()
    raise ValueError(family)


def make_tokenizer(*, template: str | None = None, end_of_turn: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer; with a template also the special tokens of ChatML."""
    tokenizer = byte_tokenizer(TEXTS * 2, VOCABULARY - 10)
    if template is not None:
        marks = [AddedToken(mark, special=True, normalized=False) for mark in ("<|im_start|>", "<|im_end|>")]
        tokenizer.add_special_tokens({"additional_special_tokens": marks})
        tokenizer.chat_template = template
        if end_of_turn:
            tokenizer.eos_token = "<|im_end|>"
    return tokenizer


def make_episode(prompt: Sequence[int], *steps: Sequence[int], **fields: Any) -> Episode:
    """An episode of one turn from its tokens."""
    numbers = [-1] * len(prompt) + [k for k, step in enumerate(steps) for _ in step]
    defaults: dict[str, Any] = {
        "tokens": [*prompt, *(token for step in steps for token in step)],
        "step_id": numbers,
        "rewards": [0.0] * (len(steps) - 1) + [1.0],
        "terminated": True,
        "truncated": False,
        "task_id": "task-0",
        "env_id": "oreo/Test-v0",
    }
    return Episode(**(defaults | fields))


def draw_episodes(count: int, *, seed: int = 0, vocabulary: int = VOCABULARY) -> list[Episode]:
    """Ragged episodes of random tokens, with an observation between two actions in every other one."""
    rng = np.random.default_rng(seed)
    episodes = []
    for number in range(count):
        step_id = [-1] * int(rng.integers(1, 5)) + [0] * int(rng.integers(1, 5))
        if number % 2:
            step_id += [-1] * int(rng.integers(1, 4))
        step_id += [1] * int(rng.integers(1, 5))
        episodes.append(
            Episode(
                tokens=rng.integers(3, vocabulary, size=len(step_id)),
                step_id=np.array(step_id),
                rewards=np.array([0.0, float(number % 2)]),
                terminated=True,
                truncated=False,
                task_id=f"task-{number}",
                env_id="oreo/Test-v0",
            )
        )
    return episodes


def disturb(network: torch.nn.Module, size: float = 0.2) -> None:
    """Stand in for training: move everything that is trained."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(size * torch.randn(parameter.shape, generator=generator))
