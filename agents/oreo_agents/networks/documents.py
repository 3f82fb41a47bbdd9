"""How a network reads the documents of a batch: packed in one row, padded, or one at a time.

Knows: which of these ways gives what a document gives alone, by trying. Does not know: heads, losses.
"""

import logging
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from oreo_agents.networks import packing
from oreo_agents.networks.checkpoints import autocast, base_model
from oreo_agents.networks.miniature import tried
from oreo_algos.batch import Batch

_log = logging.getLogger(__name__)


class Documents:
    """The way in which one network reads batches, found by trying the faster ones first.

    Attributes:
        longest_packed: the longest document that is packed, tokens; 0: none is.
        alone: why each document is read by itself; None: batches are packed or padded.
    """

    def __init__(self, model: PreTrainedModel, longest_packed: int) -> None:
        """Know the model, and what ``packing.enable`` says of it."""
        self._model = model
        self.longest_packed = longest_packed
        self.alone: str | None = None

    def prove(self, called: nn.Module, *, cuts_rows: bool = False) -> None:
        """Find the fastest way that is right for what is called at each batch, see ``packing.outputs_at``.

        Raises:
            ValueError: not even a document by itself can be read.
        """

        def differs(longest: int = 0, *, alone: bool = False) -> str | None:
            return tried(self._model, lambda: self._trial(called, longest, cuts_rows=cuts_rows, alone=alone))

        if self.longest_packed and called is not base_model(self._model):
            self.longest_packed *= differs(longest=9) is None
        self.alone = differs()
        if self.alone is not None:
            self.longest_packed = 0
            kind = type(self._model).__name__
            if (reason := differs(alone=True)) is not None:
                raise ValueError(f"{kind} cannot read a document ({reason}); use another architecture")
            _warn_of_lone_documents(kind, self.alone)

    def outputs_at(self, called: Any, batch: Batch, wanted: Tensor, *, cuts_rows: bool = False) -> Tensor:
        """See ``packing.outputs_at``."""
        alone = self.alone is not None
        return packing.outputs_at(called, batch, wanted, self.longest_packed, cuts_rows=cuts_rows, alone=alone)

    def _trial(self, called: nn.Module, longest: int, *, cuts_rows: bool, alone: bool = False) -> str | None:
        device = next(self._model.parameters()).device
        # Packed documents stay within a window.
        window = getattr(self._model.config.get_text_config(), "sliding_window", None) or 9
        batch = trial_batch(device, min(window, 9) if longest else 9)
        batch.tokens[1, -4] = padding_id(self._model)
        real = batch.attention
        with autocast(device):
            found = packing.outputs_at(called, batch, real, longest, cuts_rows=cuts_rows, alone=alone).float()
            expected = packing.outputs_at(called, batch, real, 0, alone=True).float()
        exact = device.type == "cpu" and self._model.dtype == torch.float32
        difference = ((found - expected).abs().max() / expected.abs().max().clamp(min=1e-6)).item()
        if difference < (1e-4 if exact else 0.05):
            return None
        return f"documents of a batch and alone differ by {difference:.2g} of the largest output"


def trial_batch(device: torch.device, longest: int = 9) -> Batch:
    """Three documents of a few tokens, of which all but the first belong to an action."""
    lengths = torch.tensor([2, longest, 3], device=device)
    columns = torch.arange(longest, device=device)
    real = columns < lengths[:, None]
    tokens = (1 + torch.arange(real.numel(), device=device).view(real.shape) % 5) * real
    step_id = torch.where(real & (columns > 0), 0, -1)
    each = torch.ones(3, 1, dtype=torch.bool, device=device)
    return Batch(tokens, step_id, step_id == 0, real, each.float(), each, each[:, 0])


@cache
def _warn_of_lone_documents(model: str, reason: str) -> None:
    _log.warning("%s is read slowly, one document at a time: %s", model, reason)


def require_causal(model: PreTrainedModel) -> None:
    """Refuse a model whose output at a position depends on later tokens, as that of an encoder does.

    Raises:
        ValueError: the model is not causal, or cannot read tokens alone.
    """

    def outputs(row: Tensor) -> Tensor:
        return base_model(model)(row[None], use_cache=False)[0][0].float()

    def trial() -> str | None:
        parameter = next(model.parameters())
        tokens = torch.tensor([[1, 2, 3, 4], [1, 2, 5, 6]], device=parameter.device)
        first, second = (outputs(row)[:2] for row in tokens)
        if not torch.allclose(first, second, atol=1e-3, rtol=1e-3):
            return "what it says of a token changes with the tokens after it"
        if parameter.dtype != torch.float32 or parameter.device.type != "cpu":  # other lengths, other rounding
            return None
        row = torch.tensor([1, 2, 3, 4, 5, padding_id(model), 1, 2, 3, 4, 5])
        whole = outputs(row)
        same = all(torch.allclose(outputs(row[:end]), whole[:end], atol=1e-3, rtol=1e-3) for end in (6, 9))
        return None if same else "what it says of a token changes with how many come after it"

    if (reason := tried(model, trial)) is not None:
        raise ValueError(
            f"{model.name_or_path}: this {model.config.model_type} model is not causal ({reason}); use a decoder such "
            "as Llama or Qwen"
        )


def padding_id(model: PreTrainedModel) -> int:
    """Return the id of padding, which a transcript may hold too: many tokenizers end turns with it. 0: none is said."""
    found = getattr(model.config.get_text_config(), "pad_token_id", None)
    embeddings: Any = model.get_input_embeddings()
    return found if isinstance(found, int) and 0 <= found < len(embeddings.weight) else 0
