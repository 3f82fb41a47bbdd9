"""Small models from random weights, with a tokenizer of their own, for tasks without a checkpoint.

Knows: transformers configurations and the tokenizers library. Does not know: environments, training.
"""

import math
import re
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from oreo_agents.networks.old_names import write_old_names
from oreo_algos.typed import require_finite, require_types

_END, _PAD, _UNKNOWN = "<|end|>", "<|pad|>", "<|unknown|>"
# A word, a number, a run of # or another character, with the space before it; or one blank.
_PIECES = r" ?[A-Za-z]+| ?\d+| ?#+| ?[^\sA-Za-z\d]|\s"


@dataclass(frozen=True, kw_only=True)
class TinyConfig:
    """Shape of a decoder trained from scratch.

    Attributes:
        architecture: ``llama`` or ``qwen2``.
        hidden_size: width.
        intermediate_size: width inside the feed-forward layers.
        layers: transformer blocks.
        heads: attention heads.
        context: longest transcript, tokens.
        init_std: standard deviation of the initial weights.
        tied: share input and output embeddings.
        composed: the vector of a thing with its number, such as " mug 1", starts as the sum of its parts', over the
            square root of 2, so that things of one type are alike from the start.
        tokenizer_size: entries of the byte-level BPE tokenizer that is trained on the demonstrations of an
            environment without a vocabulary of its own; 256 or less: plain bytes.
    """

    architecture: str = "llama"
    hidden_size: int = 64
    intermediate_size: int = 128
    layers: int = 3
    heads: int = 4
    context: int = 512
    init_std: float = 0.05
    tied: bool = False
    composed: bool = False
    tokenizer_size: int = 2048

    def __post_init__(self) -> None:
        """Check the settings."""
        require_types(self)
        require_finite(self)
        if self.architecture not in ("llama", "qwen2"):
            raise ValueError(f"architecture must be llama or qwen2, got {self.architecture!r}")
        for name in ("hidden_size", "intermediate_size", "layers", "heads", "context", "tokenizer_size"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name} must be an integer >= 1, got {getattr(self, name)!r}")
        if self.init_std <= 0:
            raise ValueError(f"init_std must be > 0, got {self.init_std}")
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of heads {self.heads}")


def create_checkpoint(config: TinyConfig, tokenizer: PreTrainedTokenizerFast, folder: Path, seed: int) -> None:
    """Write a model with random weights and its tokenizer as a plain Hugging Face folder."""
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.heads,
        "max_position_embeddings": config.context,
        "initializer_range": config.init_std,
        "tie_word_embeddings": config.tied,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    # transformers draws weights from the global generator; the state outside stays as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = (
            Qwen2ForCausalLM(Qwen2Config(**shape))
            if config.architecture == "qwen2"
            else LlamaForCausalLM(LlamaConfig(**shape))
        )
    if config.composed:
        _compose(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_old_names(folder)


def _compose(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Set the vectors of tokens such as " mug 1" to the sum of those of " mug" and " 1", at the same size."""
    number_of = tokenizer.get_vocab()
    tables = [model.get_input_embeddings(), model.get_output_embeddings()]
    for token, index in number_of.items():
        parts = re.fullmatch(r"( [a-z]+)( \d+)", token)
        if parts is not None and parts[1] in number_of and parts[2] in number_of:
            for table in tables:
                vectors = table.weight.data
                vectors[index] = (vectors[number_of[parts[1]]] + vectors[number_of[parts[2]]]) / math.sqrt(2)


def word_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """Build a tokenizer with one token a word, with and without a space before it; decoding is exact.

    Args:
        words: all words and characters of the task. An entry of several words, such as " mug 1", is a phrase: one
            token as it stands, and only where neither its last word nor its number goes on. Text outside them falls
            apart into single characters that occur in them, and into an unknown token otherwise.
    """
    pieces = dict.fromkeys([" ", "\n"])
    pieces.update(dict.fromkeys(character for word in words for character in word))
    phrases = dict.fromkeys(word for word in words if not re.fullmatch(_PIECES, word))
    pieces.update(dict.fromkeys(phrases))
    for word in words:
        if word not in phrases:
            pieces[word] = pieces[f" {word}"] = None
    # Each piece costs the same, so that the segmentation with the fewest tokens wins.
    vocabulary = [(token, 0.0) for token in (_UNKNOWN, _PAD, _END)]
    vocabulary += [(piece, -1.0) for piece in pieces]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("|".join([*_phrase_patterns(phrases), _PIECES])), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return _wrap(tokenizer)


def _phrase_patterns(phrases: Iterable[str]) -> list[str]:
    """Return what matches these phrases, a thing with all its numbers at once, the longest first.

    None ends inside a word or a number.
    """
    numbers: dict[str, list[str]] = {}
    for phrase in phrases:
        start = phrase.rstrip(string.digits)
        numbers.setdefault(start, []).append(phrase[len(start) :])
    longest = sorted(numbers, key=len, reverse=True)
    return [rf"{re.escape(start)}(?:{'|'.join(numbers[start])})(?![A-Za-z\d])" for start in longest]


def byte_tokenizer(texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer with at most ``size`` entries; any text is encoded and decoded exactly."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[_UNKNOWN, _PAD, _END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _wrap(tokenizer)


def _wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=_END,
        pad_token=_PAD,
        unk_token=_UNKNOWN,
        clean_up_tokenization_spaces=False,
    )
