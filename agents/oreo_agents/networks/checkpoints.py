"""What policy and value network share: configurations, tokenizers, gradient checkpointing, saving a plain folder.

Knows: transformers and peft. Does not know: how weights are read, losses, tokens of a batch.
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from peft import PeftModel
from torch.utils.checkpoint import checkpoint
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils import GENERATION_CONFIG_NAME

from oreo_agents.networks.adapters import adapted_path, merged_state, parts_ties, save_adapter
from oreo_agents.networks.old_names import GENERIC_TOKENIZERS, write_old_names
from oreo_agents.networks.places import (
    WANTED,
    first_line,
    hub_asked_once,
    may_have_tokenizer,
    require_checkpoint_at,
    require_folder_or_name,
    require_no_remote_code,
)
from oreo_algos.storage.atomic import temporary_folder

_log = logging.getLogger(__name__)

# A context that no transcript reaches, for architectures without a limit of their own.
_UNLIMITED = 1_000_000

# What a folder would be read by in place of what was saved into it last.
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*", "adapter_config.json", "adapter_model*")

# Kinds of devices that compute in bfloat16.
_BFLOAT16_ON = {"cuda"}


Checkpointing: TypeAlias = bool | Literal["auto"]
"""Whether layers are computed again in the backward; ``auto``: where transformers can, else not, with a warning."""


def require_bool(name: str, value: object) -> None:
    """Refuse a text such as "no", which would count as true."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")


def require_checkpointing(name: str, value: object) -> None:
    """Refuse what is no `Checkpointing`."""
    if value != "auto":
        require_bool(name, value)


def load_config(path: str, *, trust_remote_code: bool = False) -> PretrainedConfig:
    """Read the configuration of a checkpoint; of adapters that of the weights that they adapt, unless they have one.

    Raises:
        ValueError: there is no readable checkpoint at ``path``, a folder or a name on the hub, or its model is code
            that comes with it and is not trusted.
    """
    require_checkpoint_at(path)
    base = adapted_path(path)
    if base is not None and not (Path(path) / "config.json").exists():
        return load_config(base, trust_remote_code=trust_remote_code)
    try:
        with hub_asked_once(path):
            return AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers lets through what any reader of files raises
        require_no_remote_code(path, error)
        raise ValueError(
            f"{path}: no transformers checkpoint can be read there ({first_line(error)}); {WANTED}"
        ) from error


def load_tokenizer(path: str, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Read the tokenizer of a checkpoint; of adapters without one that of the weights that they adapt.

    Raises:
        ValueError: there is none, or it is code that comes with the checkpoint and is not trusted.
    """
    require_folder_or_name(path)
    try:
        # For some families (Qwen2) AutoTokenizer would put a class of theirs in place of what tokenizer.json says.
        with hub_asked_once(path):
            declared = get_tokenizer_config(path)
            plain = declared.get("tokenizer_class") in GENERIC_TOKENIZERS and "auto_map" not in declared
            reader: Any = PreTrainedTokenizerFast if plain else AutoTokenizer
            tokenizer: PreTrainedTokenizerBase = reader.from_pretrained(path, trust_remote_code=trust_remote_code)
    except Exception as error:  # of tokenizers, that very class
        require_no_remote_code(path, error)
        here = may_have_tokenizer(path)
        if not (here and Path(path).is_dir()) and (base := adapted_path(path)) is not None:
            return load_tokenizer(base, trust_remote_code=trust_remote_code)
        why = first_line(error) if here else "none of its files are there"
        raise ValueError(
            f"{path}: no tokenizer can be read there ({why}); save it beside the model with save_pretrained"
        ) from error
    return tokenizer


def load_end_tokens(path: str) -> list[int]:
    """Read the tokens that end a text by the generation configuration of a checkpoint; none where it has none.

    Of adapters without one, that of the weights that they adapt.

    Raises:
        ValueError: it cannot be read, or names no tokens.
    """
    try:
        with hub_asked_once(path):
            ends = GenerationConfig.from_pretrained(path).eos_token_id
    except Exception as error:  # as for configurations
        if isinstance(error, OSError) and not (Path(path) / GENERATION_CONFIG_NAME).exists():
            base = adapted_path(path)
            return [] if base is None else load_end_tokens(base)
        raise ValueError(f"{path}: its {GENERATION_CONFIG_NAME} cannot be read ({first_line(error)})") from error
    found = [] if ends is None else ends if isinstance(ends, list) else [ends]
    if not all(type(end) is int for end in found):
        raise ValueError(
            f"{path}: eos_token_id in its {GENERATION_CONFIG_NAME} must be numbers of tokens, got {ends!r}"
        )
    return found


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Identify what decides how text becomes tokens: vocabulary, merges, template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    facts = [
        json.loads(backend.to_str()) if backend else sorted(tokenizer.get_vocab().items()),
        tokenizer.chat_template,
        tokenizer.eos_token_id,
    ]
    if backend:
        # Set by whoever encoded a batch last; they do not change what text becomes.
        facts[0].update(padding=None, truncation=None)
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def weights_digest(path: str) -> str:
    """Tell the weights of a checkpoint: by their bytes in a folder, by the name of one on the hub."""
    if not Path(path).is_dir():
        return path
    base = adapted_path(path)
    digest = hashlib.sha256(weights_digest(base).encode() if base else b"")
    for file in sorted(Path(path).iterdir()):
        if file.suffix in (".safetensors", ".bin"):
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:16]


def autocast(device: torch.device) -> torch.autocast:
    """Compute in bfloat16 on a GPU, as in training, and in the dtype of the weights on a CPU."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type in _BFLOAT16_ON)


@contextmanager
def cast_once(network: torch.nn.Module) -> Iterator[None]:
    """Compute as `autocast` says, without gradients, and cast each weight once for all reads within.

    What is cast is let go of at the end, so no weight may change meanwhile. Autocast keeps what it casts of weights
    that require a gradient; those that do not, below adapters, are said to do so for that time.
    """
    device = next(network.parameters()).device
    with torch.no_grad(), autocast(device):
        fixed = [p for p in network.parameters() if not p.requires_grad and p.dtype == torch.float32]
        try:
            for parameter in fixed:
                parameter.requires_grad_(True)
            yield
        finally:
            for parameter in fixed:
                parameter.requires_grad_(False)


def product_dtype(factor: torch.Tensor) -> torch.dtype:
    """Return the dtype in which autocast, or else a factor itself, would have matrices multiplied."""
    device = factor.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else factor.dtype


def max_length(config: PretrainedConfig) -> int:
    """Return the longest input of a model, tokens.

    Of one whose positions are turned by other factors past its original length (longrope), that length: what it says of
    a transcript beyond it depends on the others of the batch.
    """
    text = config.get_text_config()
    longest = getattr(text, "max_position_embeddings", None) or _UNLIMITED
    rope = getattr(text, "rope_parameters", None) or {}
    kinds = [rope, *(kind for kind in rope.values() if isinstance(kind, dict))]
    if any(kind.get("rope_type") == "longrope" for kind in kinds):
        originals = [kind.get("original_max_position_embeddings") for kind in kinds]
        originals.append(getattr(text, "original_max_position_embeddings", None))
        longest = min([longest, *(original for original in originals if original)])
    return longest


def checkpoint_layers(model: torch.nn.Module, *, if_possible: bool = False) -> None:
    """Let each layer hold its input only, and be computed again in the backward: less memory, a third more time.

    transformers would do so in training mode alone, where layers also drop out and forget their cache; here the forward
    of each layer is wrapped, in any mode.

    Args:
        model: its layers change their class.
        if_possible: warn, once, where no layer of this model can be.

    Raises:
        ValueError: no layer of this model can be.
    """
    layers: list[Any] = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers and if_possible:
        _warn_of_held_layers(type(model).__name__)
    elif not layers:
        raise ValueError(
            f"gradient_checkpointing=true: {type(model).__name__} has no layers that transformers can checkpoint; "
            "leave it false"
        )
    for layer in layers:
        # A class, and no `forward` of the layer's own, which would refer to it: a network that nobody uses would stay
        # until a cyclic collection.
        kind: Any = type(layer)
        layer.__class__ = _checkpointed(kind)


@cache
def _warn_of_held_layers(model: str) -> None:
    """Say once that a model holds what its layers compute, as it was not asked to."""
    _log.warning(
        "%s has no layers that transformers can checkpoint: its updates hold all that they compute, so give "
        "trainer.micro_batch_tokens a smaller number if memory is short",
        model,
    )


@cache
def _checkpointed(kind: Any) -> Any:
    """Return the class of such layers whose forward is computed again in the backward."""

    @wraps(kind.forward)
    def forward(self: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return kind.forward(self, *args, **kwargs)
        return checkpoint(kind.forward, self, *args, use_reentrant=False, **kwargs)

    def reduce(self: torch.nn.Module, protocol: Any) -> tuple[Any, ...]:
        return (_new_checkpointed, (kind,), *kind.__reduce_ex__(self, protocol)[2:])

    # The name stays: transformers and those who shard models tell layers by it.
    return type(kind.__name__, (kind,), {"forward": forward, "__reduce_ex__": reduce, "__module__": kind.__module__})


def _new_checkpointed(kind: Any) -> torch.nn.Module:
    """Return an empty layer, for a copy."""
    made: Any = _checkpointed(kind)
    layer: torch.nn.Module = made.__new__(made)
    return layer


def compute_in_float32(head: torch.nn.Linear) -> None:
    """Keep a head that ends in a number in float32, and compute it so under autocast too.

    In bfloat16 values near 1 are multiples of 1/128: many answers would tie.
    """
    head.float()
    head.__class__ = _Float32Linear  # no `forward` of its own, see `checkpoint_layers`


class _Float32Linear(torch.nn.Linear):
    """A linear layer that autocast does not reach."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return torch.nn.functional.linear(x.float(), self.weight, self.bias)


def base_model(model: torch.nn.Module) -> torch.nn.Module:
    """Return the trunk of a transformers model, without its head, LoRA or not."""
    plain: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    return plain.base_model


def save_network(
    model: torch.nn.Module,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase | None,
    card: str | None,
    *,
    adapter_only: bool = False,
) -> None:
    """Write an ordinary Hugging Face folder: merged weights, tokenizer, generation config and model card.

    It is filled file by file when all of them are written: the weights that stand there may be those that are saved,
    read from their file. Weights that are not part of what is saved leave it; other files stay.

    Where there are adapters everything is float32: the update that they learned may be finer than the precision of the
    weights that they adapt. With ``adapter_only`` they are written by themselves, as peft does.

    Raises:
        ValueError: the adapters cannot be merged into the architecture.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with temporary_folder(folder, "save") as temporary:
        if isinstance(model, PeftModel) and adapter_only:
            save_adapter(model, temporary)
        else:
            _save_plain(model, temporary)
        if tokenizer is not None:
            tokenizer.save_pretrained(temporary)
        write_old_names(temporary)
        if card is not None:
            (temporary / "README.md").write_text(card, encoding="utf-8")
        written = {path.name for path in temporary.iterdir()}
        for path in sorted(temporary.iterdir()):
            path.replace(folder / path.name)
    for pattern in _WEIGHTS:
        for path in folder.glob(pattern):
            if path.name not in written:
                path.unlink()


def _save_plain(model: torch.nn.Module, folder: Path) -> None:
    plain: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    if not isinstance(model, PeftModel):
        plain.save_pretrained(folder)
    else:
        plain.save_pretrained(folder, state_dict=merged_state(plain))
        path = folder / "config.json"
        config = json.loads(path.read_text(encoding="utf-8")) | {"dtype": "float32"}
        if parts_ties(plain):
            config["tie_word_embeddings"] = False
            if "text_config" in config:
                config["text_config"]["tie_word_embeddings"] = False
        path.write_text(json.dumps(config), encoding="utf-8")
