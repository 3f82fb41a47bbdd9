"""What policy and value network share: safe loading, LoRA, gradient checkpointing, saving a plain folder.

Knows: transformers and peft. Does not know: losses, tokens of a batch.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from peft import PeftModel
from safetensors import SafetensorError
from torch.utils.checkpoint import checkpoint
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils import logging as transformers_logging

from oreo_agents.networks.adapters import adapted_path, merge_adapter, merged_state, save_adapter
from oreo_agents.networks.old_names import GENERIC_TOKENIZERS, write_old_names

_log = logging.getLogger(__name__)

# A context that no transcript reaches, for architectures without a limit of their own.
_UNLIMITED = 1_000_000

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
    try:
        base = adapted_path(path)
        if base is not None and not (Path(path) / "config.json").exists():
            return load_config(base, trust_remote_code=trust_remote_code)
        return AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError) as error:
        require_no_remote_code(path, error)
        raise ValueError(
            f"policy.path={path}: no transformers checkpoint can be read there ({error}); give a folder with "
            "config.json, model.safetensors and tokenizer files, or a model's name on the hub"
        ) from error


def load_tokenizer(path: str, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Read the tokenizer of a checkpoint; of adapters without one that of the weights that they adapt.

    Raises:
        ValueError: there is none, or it is code that comes with the checkpoint and is not trusted.
    """
    try:
        # For some families (Qwen2) AutoTokenizer would put a class of theirs in place of what tokenizer.json says.
        declared = get_tokenizer_config(path)
        plain = declared.get("tokenizer_class") in GENERIC_TOKENIZERS and "auto_map" not in declared
        reader: Any = PreTrainedTokenizerFast if plain else AutoTokenizer
        tokenizer: PreTrainedTokenizerBase = reader.from_pretrained(path, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError) as error:
        require_no_remote_code(path, error)
        if (base := adapted_path(path)) is not None:
            return load_tokenizer(base, trust_remote_code=trust_remote_code)
        raise ValueError(
            f"{path}: no tokenizer can be read there ({error}); save it beside the model with save_pretrained"
        ) from error
    return tokenizer


def require_no_remote_code(path: str, error: Exception) -> None:
    """Say what to do where an error says that code of a checkpoint would have to be run.

    Raises:
        ValueError: it does.
    """
    if "trust_remote_code" in str(error):
        raise ValueError(
            f"{path}: its model or tokenizer is code that comes with the checkpoint, which is not run unasked; read "
            "it, and set policy.trust_remote_code=true if you trust it"
        ) from error


def load_model(
    auto_class: Any,
    path: str,
    *,
    dtype: torch.dtype,
    config: PretrainedConfig | None = None,
    new_head: bool = False,
    trust_remote_code: bool = False,
) -> Any:
    """Load the weights of a checkpoint into the architecture that its configuration names, all of them or none.

    Of a folder of peft, the weights that it adapts, with its adapters merged into them.

    Args:
        auto_class: of transformers.
        path: folder or hub name.
        dtype: of the weights.
        config: another one than the checkpoint's.
        new_head: the model has a head of one number a token that the checkpoint lacks, and leaves the other unused.
        trust_remote_code: run code that comes with the checkpoint.

    Raises:
        ValueError: no such architecture or class for it, files that are missing or cannot be read, weights that the
            architecture has and the checkpoint lacks or the other way round, or weights that are not finite.
    """
    base = adapted_path(path)
    if base is not None:
        how: Any = {"config": config, "new_head": new_head, "trust_remote_code": trust_remote_code}
        weights = load_model(auto_class, base, dtype=torch.float32, **how)
        merged: Any = merge_adapter(weights, path)
        return merged.to(dtype)
    given: dict[str, Any] = {"trust_remote_code": trust_remote_code} | ({} if config is None else {"config": config})
    try:
        with _without_load_report():
            model, found = auto_class.from_pretrained(path, dtype=dtype, output_loading_info=True, **given)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        require_no_remote_code(path, error)
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{path}: its weights cannot be loaded as a {auto_class.__name__.removeprefix('AutoModelFor')} model "
            f"({first[:300]}); copy the whole folder again, or name another checkpoint"
        ) from error
    trunk = f"{model.base_model_prefix}."
    problems = {
        "missing there": [key for key in found["missing_keys"] if not new_head or key.startswith(trunk)],
        "there, and unknown to it": [key for key in found["unexpected_keys"] if not new_head or key.startswith(trunk)],
        "of another shape": [key for key, *_ in found["mismatched_keys"]],
    }
    told = "; ".join(f"{what}: {_several(keys)}" for what, keys in problems.items() if keys)
    if told:
        raise ValueError(
            f"{path}: the weights are not those of a {type(model).__name__}, which would run on random ones ({told}); "
            "give the folder of a whole checkpoint: `policy` for a policy, `value` for a value network"
        )
    broken = [name for name, weight in model.named_parameters() if not _is_finite(weight)]
    if broken:
        raise ValueError(f"{path}: weights that are not finite (NaN or infinite): {_several(broken)}; copy it again")
    return model


def _several(names: Sequence[str]) -> str:
    """Name some of many."""
    shown = ", ".join(sorted(names)[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


@torch.no_grad()
def _is_finite(weight: torch.Tensor) -> bool:
    """Say whether all numbers are finite; the extremes tell, without a copy."""
    if weight.numel() == 0 or not weight.is_floating_point():
        return True
    return bool(torch.isfinite(torch.stack(torch.aminmax(weight.detach()))).all())


@contextmanager
def _without_load_report() -> Iterator[None]:
    """Silence the report of missing and unused weights: what is wrong of it is an error."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


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
    tokenizer: PreTrainedTokenizerBase,
    card: str,
    *,
    adapter_only: bool = False,
) -> None:
    """Write an ordinary Hugging Face folder: merged weights, tokenizer, generation config and model card.

    Where there are adapters everything is float32: the update that they learned may be finer than the precision of the
    weights that they adapt. With ``adapter_only`` they are written by themselves, as peft does.

    Raises:
        ValueError: the adapters cannot be merged into the architecture.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(model, PeftModel) and adapter_only:
        save_adapter(model, folder)
    else:
        _save_plain(model, folder)
    tokenizer.save_pretrained(folder)
    write_old_names(folder)
    (folder / "README.md").write_text(card, encoding="utf-8")


def _save_plain(model: torch.nn.Module, folder: Path) -> None:
    plain: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    if not isinstance(model, PeftModel):
        plain.save_pretrained(folder)
    else:
        plain.save_pretrained(folder, state_dict=merged_state(plain))
        path = folder / "config.json"
        config = json.loads(path.read_text(encoding="utf-8")) | {"dtype": "float32"}
        path.write_text(json.dumps(config), encoding="utf-8")
