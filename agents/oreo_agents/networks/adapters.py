"""Low-rank adapters: put on a network, merged into plain weights, saved by themselves, read from a folder of peft.

Knows: peft. Does not know: how plain weights are loaded, what is trained with them.
"""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.utils.peft_utils import find_adapter_config_file

from oreo_agents.networks.places import first_line, hub_asked_once, require_folder_or_name
from oreo_algos.typed import require_types


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters on linear layers, in place of full fine-tuning.

    Attributes:
        rank: rank of the update; 0 trains all weights.
        alpha: scale of the update; the paper uses alpha = rank = 64 for its 7B value network.
        target_modules: names, or ends of names, of the modules that get adapters; None: every linear layer but the
            head, and the experts of a mixture.
        exclude_modules: names, or ends of names, of modules that get none.
        dropout: probability at which an input of an adapter is dropped where gradients are computed; none is dropped
            where a policy is sampled or a reference read.
        use_rslora: scale by alpha / sqrt(rank) in place of alpha / rank (Kalajdzievski 2023, arXiv:2312.03732).
        save: "merged": a plain folder of all weights, float32; "adapter": a folder of peft, the adapters alone, which
            names the folder or hub name of the weights that they adapt.
    """

    rank: int = 0
    alpha: int = 64
    target_modules: Sequence[str] | None = None
    exclude_modules: Sequence[str] = ()
    dropout: float = 0.0
    use_rslora: bool = False
    save: Literal["merged", "adapter"] = "merged"

    def __post_init__(self) -> None:
        """Check the settings."""
        require_types(self)
        if self.rank < 0 or self.alpha <= 0:
            raise ValueError(f"LoRA needs rank >= 0 and alpha > 0, got rank {self.rank}, alpha {self.alpha}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"lora.dropout must be a probability below 1, got {self.dropout}")
        for name in ("target_modules", "exclude_modules"):
            given = getattr(self, name)
            object.__setattr__(self, name, None if given is None else tuple(given))

    def wrap(self, model: PreTrainedModel, train_head: str | None = None) -> nn.Module:
        """Return ``model`` with adapters; ``train_head`` names a module that is trained in full.

        Raises:
            ValueError: no module has a name that was given, or what was trained could not be saved.
        """
        if self.rank == 0:
            return model
        if self.save == "merged" and getattr(model, "is_quantized", False):
            raise ValueError(
                f"{model.name_or_path}: adapters cannot be merged into quantised weights; save them by themselves "
                "(lora.save=adapter), or give a checkpoint that is not quantised"
            )
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            use_rslora=self.use_rslora,
            target_modules="all-linear" if self.target_modules is None else list(self.target_modules),
            exclude_modules=[*self.exclude_modules, *_not_linear(model)] or None,
            modules_to_save=[train_head] if train_head else None,
        )
        adapted = _adapted(model, config)
        for module in adapted.modules():
            if isinstance(module, LoraLayer):
                for name, dropout in module.lora_dropout.items():
                    if isinstance(dropout, nn.Dropout):
                        module.lora_dropout[name] = _DropoutOfGradients(dropout.p)
        return adapted


def _adapted(model: PreTrainedModel, config: PeftConfig) -> Any:
    with warnings.catch_warnings():
        # peft reads an attribute under a name that newer transformers call deprecated.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        # Adapters of a tied head or embedding are of it alone here, merged (`_untie`) and saved.
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`", category=UserWarning)
        # Adapters draw their weights from the global generators: the same ones each time, and no trace left.
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(0)
            return get_peft_model(model, config)


class _DropoutOfGradients(nn.Dropout):
    """Drops where gradients are computed, in any mode: networks stay in evaluation mode."""

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, self.p, training=torch.is_grad_enabled())


def _not_linear(model: nn.Module) -> list[str]:
    """Name the linear layers that compute something else than their weights times an input.

    State-space models and their kernels read the weights of some past their adapters; some routers and grouped
    projections are linear layers by name only.
    """
    found = []
    plain: dict[type, bool] = {nn.Linear: True}
    for name, module in model.named_modules():
        if hasattr(module, "A_log") and hasattr(module, "D"):
            found += [f"{name}.{part}" for part in ("dt_proj", "out_proj") if hasattr(module, part)]
        if isinstance(module, nn.Linear):
            kind = type(module)
            plain[kind] = plain[kind] if kind in plain else _is_linear(module)
            if not plain[kind]:
                found.append(name)
    return found


@torch.no_grad()
def _is_linear(module: nn.Linear) -> bool:
    if module.weight.shape != (module.out_features, module.in_features):
        return True  # packed, as quantised weights are: peft knows those that it takes
    if isinstance(module.weight, FakeTensor) or module.weight.is_meta:
        return True  # there are no numbers to tell
    inputs = torch.linspace(-1, 1, module.in_features).to(module.weight)[None]
    try:
        found: Any = module(inputs)
        return torch.allclose(found, F.linear(inputs, module.weight, module.bias), atol=1e-3, rtol=1e-2)
    except (TypeError, ValueError, RuntimeError, AttributeError):
        return False


def adapted_path(path: str) -> str | None:
    """Return the folder or hub name of the weights that a folder or repository of peft adapts; None: it is none.

    Raises:
        ValueError: it does not say, or not in a way that can be read, or names a folder that is not there.
    """
    try:
        with hub_asked_once(path):
            if find_adapter_config_file(path) is None:
                return None
    except OSError:
        return None
    try:
        with hub_asked_once(path):
            base = PeftConfig.from_pretrained(path).base_model_name_or_path
    except Exception as error:  # peft hands on whatever its readers and its settings raise
        raise ValueError(f"{path}: its adapter_config.json cannot be read ({first_line(error)})") from error
    if not base:
        raise ValueError(
            f"{path}: its adapter_config.json does not name the weights that are adapted; set base_model_name_or_path"
        )
    try:
        require_folder_or_name(str(base))
    except ValueError as error:
        raise ValueError(
            f"{path}: the weights that it adapts are not there ({base}); set base_model_name_or_path in its "
            "adapter_config.json"
        ) from error
    return str(base)


def merge_adapter(model: PreTrainedModel, path: str) -> PreTrainedModel:
    """Return a model with the adapters of a folder of peft merged into its weights, which should be float32.

    Raises:
        ValueError: they are of another model, cannot be merged or read.
    """
    if Path(path).is_dir() and next(Path(path).glob("adapter_model.*"), None) is None:
        raise ValueError(f"{path}: its adapters are not there (adapter_model.safetensors); copy the whole folder again")
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    try:
        config = PeftConfig.from_pretrained(path)
        begun: Any = getattr(config, "init_lora_weights", None)
        if isinstance(begun, str) and begun.startswith("pissa_niter"):
            # peft 0.21 would draw another decomposition, and add what was trained to another residual.
            raise ValueError(
                f"they began with a random decomposition of the weights ({begun}), which cannot be made again; save "
                "them once more where they were trained, with path_initial_model_for_weight_conversion, or merged"
            )
        adapted = _adapted(model, config)
        if parts_ties(model):
            _untie(model)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Found missing adapter keys")
            found: Any = adapted.load_adapter(path, "default")
        merge = getattr(adapted, "merge_and_unload", None)
    except Exception as error:  # peft hands on whatever its readers and its settings raise
        raise ValueError(
            f"{path}: its adapters cannot be read, or do not fit {model.name_or_path} ({first_line(error)})"
        ) from error
    odd = sorted({*found.missing_keys, *found.unexpected_keys})
    if odd:
        raise ValueError(f"{path}: its adapters are not those of {model.name_or_path} ({', '.join(odd[:3])})")
    if merge is None:
        raise ValueError(f"{path}: adapters of this kind ({type(adapted).__name__}) cannot be merged; use LoRA")
    merged: PreTrainedModel = merge()
    for name, parameter in merged.named_parameters():
        parameter.requires_grad_(name not in frozen)  # peft freezes what it adapts
    merged.name_or_path = merged.config.name_or_path = path  # what further adapters adapt
    return merged


def parts_ties(model: PreTrainedModel) -> bool:
    """Whether embedding and head, one weight by the configuration, differ: by their adapters or as they are."""
    text: Any = model.config.get_text_config()
    layers: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    if not (getattr(model.config, "tie_word_embeddings", False) or getattr(text, "tie_word_embeddings", False)):
        return False
    if None in layers:
        return False
    return layers[0].weight is not layers[1].weight or any(isinstance(layer, BaseTunerLayer) for layer in layers)


def _untie(model: PreTrainedModel) -> None:
    """Give an adapted head or embedding a weight of its own, so that what is merged into it is in no other."""
    layers: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    if layers[0].weight is layers[1].weight:
        adapted: Any = next(layer for layer in layers if isinstance(layer, BaseTunerLayer)).get_base_layer()
        adapted.weight = nn.Parameter(adapted.weight.detach().clone(), requires_grad=False)
    model.config.get_text_config().tie_word_embeddings = model.config.tie_word_embeddings = False


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Write the adapters, and the configuration of what they adapt, as a folder of peft."""
    plain: Any = model.get_base_model()
    base = plain.name_or_path
    config = model.peft_config["default"]
    config.base_model_name_or_path = str(Path(base).resolve()) if Path(base).is_dir() else base
    model.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    own = copy.deepcopy(plain.config)
    own.architectures = [type(plain).__name__]
    own.save_pretrained(folder)


@torch.no_grad()
def merged_state(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return the weights under the names of the architecture, float32, adapters added to those that they adapt.

    peft merges in place and subtracts again, which would leave a rounding error in the model that is being trained.
    Layers may be wrapped more than once: experts are one parameter each, and each has a wrapper.

    Raises:
        ValueError: what comes out is not what the architecture has.
    """
    state = {
        _plain_name(name): tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
        if "lora_" not in name and "original_module" not in name
    }
    for name, module in model.named_modules():
        delta: Any = getattr(module, "get_delta_weight", None)
        if isinstance(module, LoraLayer) and delta is not None:
            key = f"{_plain_name(name)}.{getattr(module, 'parameter_name', None) or 'weight'}"
            state[key] = state[key] + delta("default").float()
    config = copy.deepcopy(model.config)
    config.dtype = model.dtype  # transformers leaves a text there when it saves
    with torch.device("meta"):
        expected = type(model)(config).state_dict()
    if state.keys() != expected.keys():
        odd = ", ".join(sorted(state.keys() ^ expected.keys())[:3])
        raise ValueError(f"{type(model).__name__}: its adapters cannot be merged into plain weights ({odd})")
    return state


def _plain_name(name: str) -> str:
    """Return the name that a module or parameter has without adapters."""
    return ".".join(part for part in name.replace("modules_to_save.default.", "").split(".") if part != "base_layer")
