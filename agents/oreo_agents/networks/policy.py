"""A causal language model as a policy.

Knows: transformers models, and how to score action tokens without the logits of all the others.
Does not know: tokenizers, environments, losses.
"""

# B episodes, T tokens, N action tokens of a batch, D hidden size, V vocabulary

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os.path import expanduser
from typing import Any, Self, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, PreTrainedModel

from oreo_agents.networks.adapters import Lora
from oreo_agents.networks.checkpoints import (
    Checkpointing,
    base_model,
    load_config,
    max_length,
    require_bool,
    require_checkpointing,
)
from oreo_agents.networks.kv_cache import Prefix, Room
from oreo_agents.networks.miniature import tried
from oreo_agents.networks.network import LoadOptions, Network
from oreo_agents.networks.readers import CachedReader, Reader, WholeReader, reads_on
from oreo_agents.networks.tiny import TinyConfig
from oreo_agents.networks.token_scores import HeadInput, Scores, head_scores, logit_scores
from oreo_agents.networks.weights import load_model
from oreo_algos.algos.adaptation import frozen_copy
from oreo_algos.batch import Batch
from oreo_algos.models import KLEstimate, Policy, TokenScores
from oreo_algos.typed import require_types

_log = logging.getLogger(__name__)

# Where the head is not plain, log-probabilities of this many elements at most are held at once (128 MiB in float32).
_CHUNK_ELEMENTS = 2**25


@dataclass(frozen=True, kw_only=True)
class PolicySettings:
    """Where the policy comes from.

    Attributes:
        path: folder or hub name of a checkpoint; None: a small model from random weights.
        tiny: shape of that model.
        lora: adapters in place of full fine-tuning.
        device: ``auto``: the GPU when there is one.
        dtype: of the weights; on a GPU, float32 weights are computed with in bfloat16.
        gradient_checkpointing: compute layers again in the backward: less memory, about a third more time; ``auto``:
            where the layers of the model can be.
        chat_template: path of a Jinja file to use in place of the checkpoint's chat template.
        chat_template_kwargs: arguments of the chat template, such as ``enable_thinking``.
        system_prompt: said in place of the environment's system prompt; "": none is said; None: the environment's.
        thoughts: pairs of texts that begin and end a thought; None: those in use.
        trust_remote_code: run code that comes with the checkpoint.
    """

    path: str | None = None
    tiny: TinyConfig = TinyConfig()
    lora: Lora = Lora()
    device: str = "auto"
    dtype: str = "float32"
    gradient_checkpointing: Checkpointing = False
    chat_template: str | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    system_prompt: str | None = None
    thoughts: Sequence[Sequence[str]] | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        require_bool("policy.trust_remote_code", self.trust_remote_code)
        for name in ("chat_template", "system_prompt"):
            if not isinstance(getattr(self, name), str | None):
                raise ValueError(f"policy.{name} must be a text, got {getattr(self, name)!r}")
        if not isinstance(self.chat_template_kwargs, Mapping):
            raise ValueError(
                "policy.chat_template_kwargs must be a mapping such as {enable_thinking: false}, got "
                f"{self.chat_template_kwargs!r}"
            )
        _require_device(self.device)
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"policy.dtype must be float32 or bfloat16, got {self.dtype!r}")
        require_checkpointing("policy.gradient_checkpointing", self.gradient_checkpointing)
        require_types(self)


def _require_device(name: str) -> None:
    try:
        kind = "cpu" if name == "auto" else torch.device(name).type
    except RuntimeError as error:
        raise ValueError(f"policy.device must be auto, cpu or cuda, got {name!r}") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"policy.device={name}: torch finds no CUDA device here; leave it at auto, or give cpu")


class CausalPolicy(Network):
    """A policy over ``AutoModelForCausalLM``; without dropout the log-ratio of two equal networks is 0."""

    def __init__(
        self, model: PreTrainedModel, lora: Lora | None = None, *, gradient_checkpointing: Checkpointing = False
    ) -> None:
        """Wrap a loaded model, with adapters when ``lora`` asks for them."""
        super().__init__(model, lora, gradient_checkpointing=gradient_checkpointing)
        self.max_length = max_length(model.config)

    def _prove(self) -> None:
        self._plain_head = tried(self.plain, self._head_is_not_plain) is None
        self.documents.prove(self._read_by, cuts_rows=not self._plain_head)

    @classmethod
    def from_pretrained(cls, path: str, **how: Unpack[LoadOptions]) -> Self:
        """Load a checkpoint from a folder or the hub.

        Raises:
            ValueError: nothing readable at ``path``, or not a causal language model.
        """
        path, trust = expanduser(path), how.get("trust_remote_code", False)
        load_config(path, trust_remote_code=trust)
        dtype = how.get("dtype", torch.float32)
        model = load_model(AutoModelForCausalLM, path, dtype=dtype, trust_remote_code=trust)
        return cls._wrap(model, how, path)

    @cached_property
    def reads_slowly(self) -> str | None:
        """Why the sampler reads whole transcripts at each token of this model; None: it reads on from a cache."""
        reason = reads_on(self.plain)
        if reason is not None:
            _log.warning("%s is sampled slowly, whole transcripts at each token: %s", type(self.plain).__name__, reason)
        return reason

    @property
    def resumes(self) -> bool:
        """Whether it can go on from kept keys and values."""
        return self.reads_slowly is None and super().resumes

    def reader(self, prefixes: Sequence[Prefix], room: Room | None = None) -> Reader:
        """Return what reads rows, each begun as stated, in the way that was tried with this model; in a room if any."""
        if self.reads_slowly is None:
            return CachedReader(self.plain, prefixes, next(self.parameters()).device, room)
        return WholeReader(self.plain)

    def frozen_copy(self) -> "CausalPolicy":
        """Return a copy with the same weights that is never trained; those that are not trained here are shared."""
        return frozen_copy(self)

    def score(
        self,
        batch: Batch,
        reference: Policy | None = None,
        kl: KLEstimate | None = None,
    ) -> TokenScores:
        """Score the action tokens of a batch, see ``TokenScores``.

        Args:
            batch: padded on the right.
            reference: another ``CausalPolicy``, also scored, without gradient.
            kl: which estimate of the KL to the reference to return.

        Raises:
            ValueError: ``kl`` without a reference.
        """
        return TokenScores(*self(batch, reference, kl))

    def forward(
        self,
        batch: Batch,
        reference: Policy | None = None,
        kl: KLEstimate | None = None,
        *,
        features_only: bool = False,
    ) -> tuple[Tensor | None, ...] | Tensor:
        """Return the fields of ``score``'s result, as a tuple, which wrappers can look through for tensors.

        Under DDP, call the wrapper and build ``TokenScores`` from its tuple. ``fully_shard`` works in place, so that
        ``score`` is called as ever; the policy itself, sharded after its layers, must not be resharded after the
        forward (for a root that is the default), since the head is read from there to the backward.

        With ``features_only`` return what the head reads instead, as ``_features`` does: of a reference no more is
        asked, because the exact KL compares whole distributions.
        """
        # Logits at position t - 1 predict token t, so the first column never counts.
        scored = batch.action_mask.clone()
        scored[:, 0] = False
        if features_only:
            return self._features(batch, scored[:, 1:])
        if kl is not None and reference is None:
            raise ValueError(f"kl={kl!r} needs a reference")
        if reference is not None and not isinstance(reference, CausalPolicy):
            raise TypeError(f"a CausalPolicy is compared with another one, got {type(reference).__name__}")
        targets = batch.tokens[scored]
        features = self._features(batch, scored[:, 1:])
        ref_features = None
        if reference is not None:
            with torch.no_grad():
                ref_features = reference(batch, features_only=True)
        scores = self._head_scores(features, targets, reference, ref_features, kl)
        return tuple(None if column is None else self._spread(column, scored) for column in scores)

    def _features(self, batch: Batch, wanted: Tensor) -> Tensor:
        """Return what the head reads at some positions, or the logits themselves where the head is not plain.

        These are whole, [N, V], and on a padded batch [B, T, V].

        Args:
            batch: padded on the right.
            wanted: the positions whose output is needed, those of the tokens before the scored ones, bool [B, T - 1].

        Returns:
            Float [N, D], or [N, V] where the head is not plain, rows in the order of ``wanted``.
        """
        return self.documents.outputs_at(self._read_by, batch, F.pad(wanted, (0, 1)), cuts_rows=not self._plain_head)

    @property
    def _read_by(self) -> nn.Module:
        """What is called on batches: hooks of a wrapper fire there."""
        return base_model(self.model) if self._plain_head else self.plain

    @property
    def _head_is_product(self) -> bool:
        """Whether logits are what `_read_by` says times the weights of the head: with adapters on it they are not."""
        return self._plain_head and type(self.plain.get_output_embeddings()) is nn.Linear

    def _head_scores(
        self,
        features: Tensor,
        targets: Tensor,
        reference: "CausalPolicy | None",
        ref_features: Tensor | None,
        kl: KLEstimate | None,
    ) -> Scores:
        """Score the tokens chosen from what the heads read, without all their logits where both heads are plain."""
        if not self._head_is_product or not (reference is None or reference._head_is_product):
            return self._scores_of_logits(features, targets, reference, ref_features, kl)
        other = None
        if reference is not None and ref_features is not None:
            other = reference._head_input(ref_features)
        return head_scores(self._head_input(features), targets, other, kl)

    def _head_input(self, features: Tensor) -> HeadInput:
        head: Any = self.plain.get_output_embeddings()
        return HeadInput(features, head.weight, head.bias)

    def _logits(self, features: Tensor) -> Tensor:
        if not self._plain_head:
            return features.float()
        return self.plain.get_output_embeddings()(features).float()

    def _scores_of_logits(
        self,
        features: Tensor,
        targets: Tensor,
        reference: "CausalPolicy | None",
        ref_features: Tensor | None,
        kl: KLEstimate | None,
    ) -> Scores:
        """Score the tokens chosen, some at a time; the backward computes their log-probabilities again."""
        rows = max(_CHUNK_ELEMENTS // self.plain.config.get_text_config().vocab_size, 1)

        def score(features: Tensor, ref_features: Tensor | None, targets: Tensor) -> Scores:
            logp = self._logits(features).log_softmax(dim=-1)
            ref_logp = None
            if reference is not None and ref_features is not None:
                with torch.no_grad():
                    ref_logp = reference._logits(ref_features).log_softmax(dim=-1)
            return logit_scores(logp, ref_logp, targets, kl)

        chunks = []
        for start in range(0, max(len(targets), 1), rows):
            chunk = slice(start, start + rows)
            arguments = (features[chunk], None if ref_features is None else ref_features[chunk], targets[chunk])
            if len(targets) <= rows or not torch.is_grad_enabled():
                chunks.append(score(*arguments))
            else:
                chunks.append(checkpoint(score, *arguments, use_reentrant=False))
        logprobs, ref_logprobs, divergence, entropy = zip(*chunks, strict=True)
        present = (ref_logprobs[0] is not None, divergence[0] is not None)
        return (
            torch.cat(logprobs),
            torch.cat(ref_logprobs) if present[0] else None,
            torch.cat(divergence) if present[1] else None,
            torch.cat(entropy),
        )

    @staticmethod
    def _spread(values: Tensor, where: Tensor) -> Tensor:
        """Put the values of the scored tokens, [N], back to their places, [B, T], 0 elsewhere."""
        return torch.zeros(where.shape, device=values.device).masked_scatter(where, values.float())

    def _head_is_not_plain(self) -> str | None:
        """Say why the logits are not the output embedding of the last hidden state and nothing else; None: they are.

        Some architectures scale or cap their logits; these are asked for the logits themselves. The head is made to
        say large numbers for once: a cap leaves the small logits of a fresh model as they are.
        """
        head = self.plain.get_output_embeddings()
        if type(head) is not nn.Linear:
            return "adapters and quantised weights compute something else"
        read: list[Tensor] = []
        said: list[Tensor] = []

        def speak(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            read.append(inputs[0])
            said.append(torch.linspace(-500, 500, output.numel()).to(output).view_as(output))
            return said[-1]

        tokens = torch.tensor([[1, 2, 3, 4]], device=next(self.parameters()).device)
        hook = head.register_forward_hook(speak)
        try:
            logits = self.plain(tokens, use_cache=False).logits
            hidden = base_model(self.model)(tokens, use_cache=False)[0]
        finally:
            hook.remove()
        reads_it = len(read) == 1 and torch.allclose(read[0], hidden, atol=1e-4, rtol=1e-4)
        plain = reads_it and torch.allclose(said[0].to(logits), logits)
        return None if plain else "its logits are scaled or capped"
