"""What policy and value network share: safe loading, LoRA, gradient checkpointing, saving a plain folder.

Knows: transformers and peft. Does not know: losses, tokens of a batch.
"""

import hashlib
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_layers import GradientCheckpointingLayer

# A context that no transcript reaches, for architectures without a limit of their own.
_UNLIMITED = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters on every linear layer, in place of full fine-tuning.

    Attributes:
        rank: rank of the update; 0 trains all weights.
        alpha: scale of the update; the paper uses alpha = rank = 64 for its 7B value network.
    """

    rank: int = 0
    alpha: int = 64

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.rank < 0 or self.alpha <= 0:
            raise ValueError(f"LoRA needs rank >= 0 and alpha > 0, got rank {self.rank}, alpha {self.alpha}")

    def wrap(self, model: PreTrainedModel, train_head: str | None = None) -> torch.nn.Module:
        """Return ``model`` with adapters; ``train_head`` names a module that is trained in full."""
        if self.rank == 0:
            return model
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=0.0,
            target_modules="all-linear",
            modules_to_save=[train_head] if train_head else None,
        )
        with warnings.catch_warnings():
            # peft reads an attribute under a name that newer transformers call deprecated.
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
            # Adapters draw their weights from the global generators: the same ones each time, and no trace left.
            with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
                torch.manual_seed(0)
                return get_peft_model(model, config)


def require_bool(name: str, value: object) -> None:
    """Refuse a text such as "no", which would count as true."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")


def load_config(path: str) -> PretrainedConfig:
    """Read the configuration of a checkpoint.

    Raises:
        ValueError: there is no readable checkpoint at ``path``, a folder or a name on the hub.
    """
    try:
        return AutoConfig.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"policy.path={path}: no transformers checkpoint can be read there ({error}); give a folder with "
            "config.json, model.safetensors and tokenizer files, or a model's name on the hub"
        ) from error


def weights_digest(path: str) -> str:
    """Tell the weights of a checkpoint: by their bytes in a folder, by the name of one on the hub."""
    if not Path(path).is_dir():
        return path
    digest = hashlib.sha256()
    for file in sorted(Path(path).iterdir()):
        if file.suffix in (".safetensors", ".bin"):
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:16]


def autocast(device: torch.device) -> torch.autocast:
    """Compute in bfloat16 on a GPU, as in training, and in the dtype of the weights on a CPU."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def product_dtype(factor: torch.Tensor) -> torch.dtype:
    """Return the dtype in which autocast, or else a factor itself, would have matrices multiplied."""
    device = factor.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else factor.dtype


def max_length(config: PretrainedConfig) -> int:
    """Return the longest input of a model, tokens."""
    return getattr(config.get_text_config(), "max_position_embeddings", None) or _UNLIMITED


def require_causal(model: PreTrainedModel) -> None:
    """Refuse a model whose output at a position depends on later tokens, as that of an encoder does.

    Raises:
        ValueError: the model is not causal.
    """
    device = next(model.parameters()).device
    tokens = torch.tensor([[1, 2, 3, 4], [1, 2, 5, 6]], device=device)
    with torch.no_grad():
        hidden = base_model(model)(tokens).last_hidden_state.float()
    if not torch.allclose(hidden[0, :2], hidden[1, :2], atol=1e-3, rtol=1e-3):
        raise ValueError(
            f"{model.name_or_path}: this {model.config.model_type} model is not causal: what it says of a token "
            "changes with the tokens after it; use a decoder such as Llama or Qwen"
        )


def checkpoint_layers(model: torch.nn.Module) -> None:
    """Let each layer hold its input only, and be computed again in the backward: less memory, a third more time.

    transformers would do so in training mode alone, where layers also drop out and forget their cache; here the forward
    of each layer is wrapped, in any mode.

    Raises:
        ValueError: no layer of this model can be.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise ValueError(
            f"gradient_checkpointing=true: {type(model).__name__} has no layers that transformers can checkpoint; "
            "leave it false"
        )
    for layer in layers:
        # Not a closure: a deep copy of the model must call its own layers.
        layer.forward = partial(checkpoint, type(layer).forward, layer, use_reentrant=False)


def base_model(model: torch.nn.Module) -> torch.nn.Module:
    """Return the trunk of a transformers model, without its head, LoRA or not."""
    plain: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    return plain.base_model


def save_plain(model: torch.nn.Module, folder: Path, tokenizer: PreTrainedTokenizerBase, card: str) -> None:
    """Write an ordinary Hugging Face folder: merged weights, tokenizer, generation config and model card."""
    plain: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    state = None if plain is model else _merged_state(plain)
    folder.mkdir(parents=True, exist_ok=True)
    plain.save_pretrained(folder, state_dict=state)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(card, encoding="utf-8")


@torch.no_grad()
def _merged_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights under the names of the architecture, adapters added to those that they adapt.

    peft merges in place and subtracts again, which would leave a rounding error in the model that is being trained.
    """
    state = {
        name.replace(".base_layer.", ".").replace("modules_to_save.default.", ""): tensor
        for name, tensor in model.state_dict().items()
        if "lora_" not in name and "original_module" not in name
    }
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            weight = state[f"{name}.weight"]
            state[f"{name}.weight"] = weight + module.get_delta_weight("default").to(weight)
    return state
