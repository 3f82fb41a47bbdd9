"""What policy and value network share: a transformers model, how it is loaded, adapted, kept in one mode and saved.

Knows: checkpoints. Does not know: heads, losses.
"""

from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypedDict

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from oreo_agents.networks import index_ties, packing
from oreo_agents.networks.adapters import Lora
from oreo_agents.networks.checkpoints import (
    Checkpointing,
    checkpoint_layers,
    load_tokenizer,
    save_network,
    tokenizer_fingerprint,
)
from oreo_agents.networks.documents import Documents, require_causal
from oreo_agents.networks.kv_cache import can_resume

_UNITS = ((1e9, "B"), (1e6, "M"), (1e3, "k"), (1, ""))


class LoadOptions(TypedDict, total=False):
    """How a network is loaded.

    Attributes:
        device: where to; default: the CPU.
        dtype: of the weights; default: float32.
        lora: adapters; default: all weights are trained.
        gradient_checkpointing: see ``checkpoints.checkpoint_layers``; default: off.
        trust_remote_code: run code that comes with the checkpoint; default: refuse it.
    """

    device: str | torch.device
    dtype: torch.dtype
    lora: Lora | None
    gradient_checkpointing: Checkpointing
    trust_remote_code: bool


class Network(nn.Module):
    """A transformers model, with adapters or without; dropout is off at all times."""

    def __init__(
        self,
        model: PreTrainedModel,
        lora: Lora | None = None,
        *,
        gradient_checkpointing: Checkpointing = False,
        head: str | None = None,
    ) -> None:
        """Wrap a loaded model, with adapters when ``lora`` asks for them; ``head`` names a module trained in full."""
        super().__init__()
        model.eval()
        index_ties.settle(model)
        require_causal(model)
        self.documents = Documents(model, packing.enable(model))
        self.model: nn.Module = model
        self._prove()
        self.lora = lora or Lora()
        self.model = self.lora.wrap(model, train_head=head)
        if gradient_checkpointing:
            checkpoint_layers(self.model, if_possible=gradient_checkpointing == "auto")
        self.eval()

    def _prove(self) -> None:
        """Find how batches are read, of the model as it was loaded."""
        raise NotImplementedError

    path: str | None = None
    """Where it was loaded from; None: it was made of a model in memory."""

    prompt_format: Any = None
    """How its tokenizer writes conversations, an ``episodes.PromptFormat``, where somebody has said."""

    def __repr__(self) -> str:
        """One line: what it is, its size, where it is and came from."""
        parameter = next(self.parameters())
        count = sum(one.numel() for one in self.parameters())
        size = next((f"{count / unit:.3g}{name}" for unit, name in _UNITS if count >= unit), "no")
        adapted = "" if self.lora.rank == 0 else f", adapters of rank {self.lora.rank}"
        where = f"{str(parameter.dtype).removeprefix('torch.')} on {parameter.device}"
        source = "" if self.path is None else f", from {self.path}"
        return f"{type(self).__name__}({type(self.plain).__name__}, {size} parameters, {where}{adapted}{source})"

    @classmethod
    def _wrap(cls, model: PreTrainedModel, how: LoadOptions, path: str) -> Self:
        """Put a model that was just loaded where it belongs, and wrap it."""
        placed: Any = model.to(how.get("device", "cpu"))  # type: ignore[arg-type]
        network = cls(placed, how.get("lora"), gradient_checkpointing=how.get("gradient_checkpointing", False))
        network.path = path
        return network

    @property
    def vocabulary(self) -> int:
        """Number of token ids that it can read."""
        embeddings: Any = self.plain.get_input_embeddings()
        return int(embeddings.weight.shape[0])

    @cached_property
    def tokenizer_fingerprint(self) -> str:
        """Tell the tokenizer beside its checkpoint, see ``checkpoints.tokenizer_fingerprint``; "": there is none."""
        try:
            if self.path is None:
                return ""
            # Code that comes with a tokenizer is not run here: whoever trusts it sets what this returns.
            return tokenizer_fingerprint(load_tokenizer(self.path))
        except ValueError:
            return ""

    @property
    def plain(self) -> PreTrainedModel:
        """The transformers model, with adapters in place if there are any."""
        plain: Any = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        return plain

    @property
    def resumes(self) -> bool:
        """Whether it can go on from kept keys and values."""
        return self._resumes

    @cached_property
    def _resumes(self) -> bool:
        return can_resume(self.plain)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: dropout would give the same tokens other numbers at each reading."""
        return super().train(False)

    def save(
        self, folder: str | Path, tokenizer: PreTrainedTokenizerBase | None = None, card: str | None = None
    ) -> None:
        """Write a plain Hugging Face folder, or one of peft where adapters are saved by themselves.

        Args:
            folder: made if it is not there; other files in it stay.
            tokenizer: None: its own, if it has one.
            card: its README; None: one that says what it is, unless there is one.

        Raises:
            ValueError: the adapters cannot be merged into the architecture.
        """
        folder = Path(folder).expanduser()
        if card is None and not (folder / "README.md").exists():
            card = f"---\nlibrary_name: transformers\ntags: [oreo-suite]\n---\n# {type(self.plain).__name__}\n"
        save_network(self.model, folder, tokenizer or self._tokenizer(), card, adapter_only=self.lora.save == "adapter")

    def _tokenizer(self) -> PreTrainedTokenizerBase | None:
        """Return the tokenizer that it reads, None: nobody has said."""
        if self.prompt_format is not None:
            tokenizer: PreTrainedTokenizerBase = self.prompt_format.tokenizer
            return tokenizer
        try:
            return None if self.path is None else load_tokenizer(self.path)
        except ValueError:
            return None
