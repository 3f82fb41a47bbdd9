"""What the trainer asks of an algorithm, and the optimisation settings that all of them share.

An algorithm is a frozen dataclass: its fields are its configuration, its methods say what it learns from and how.
The trainer owns optimisers, schedules, checkpoints and logs; an algorithm owns no state at all.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Literal, TypeVar, get_args

import numpy as np
from torch import Tensor

from oreo_algos.algos.selection import NothingToLearnError
from oreo_algos.batch import Batch
from oreo_algos.episode import Episode
from oreo_algos.losses import k3_estimate
from oreo_algos.metrics import Mean
from oreo_algos.models import KLEstimate, Models, TokenScores
from oreo_algos.segments import with_final_values
from oreo_algos.storage.buffer import EpisodeBuffer
from oreo_algos.typed import require_finite, require_types

Example = TypeVar("Example", bound="Episode | Sequence[Episode]")
"""What an algorithm learns from at once: an episode, or several that belong together, such as a pair."""

OptimizerName = Literal["adamw", "muon"]
"""``muon``: Muon for the matrices of the layers, AdamW for embeddings, heads, norms and biases."""

ReferenceUse = Literal["nothing", "logprobs", "distribution"]
"""What a loss reads of the reference: its log-probabilities of the tokens taken never change and are cached."""

OnTruncation = Literal["fail", "drop", "bootstrap"]
"""What an episode that a limit cut off is: one that failed, none, or one that is worth there what V says it is."""

MicroBatches = Callable[[Sequence[Episode]], list[Batch]]
"""Cuts episodes into micro-batches that fit into memory, and pads each."""


@dataclass(frozen=True)
class Losses:
    """What one micro-batch contributes.

    Attributes:
        terms: scalars to minimise by network, ``policy`` and ``value``, each a mean over the micro-batch. A term
            must not send a gradient into the other network.
        metrics: plain numbers to log, averaged over micro-batches with the same weights as the terms; what is no such
            average is a ``Statistic`` of ``oreo_algos.metrics``, made of what is known of the whole step.
    """

    terms: dict[str, Tensor]
    metrics: dict[str, float]

    def __post_init__(self) -> None:
        """Check that the terms are scalars.

        Raises:
            ValueError: by the term.
        """
        for name, term in self.terms.items():
            if not isinstance(term, Tensor) or term.ndim:
                found = f"has shape {list(term.shape)}" if isinstance(term, Tensor) else f"is {term!r:.60}"
                raise ValueError(f"Losses: the term {name!r} {found}; a term is a tensor without dimensions, a mean")


@dataclass(frozen=True, kw_only=True)
class Algorithm(Generic[Example]):
    """Base class: the optimisation settings, with the defaults of the paper where it names one for all.

    Attributes:
        policy_lr: peak learning rate of the policy, cosine to 0.
        epochs: passes over the selected examples.
        batch_size: examples an optimiser step.
        warmup_ratio: share of the steps with linearly rising learning rate.
        weight_decay: decoupled, for all parameters.
        max_grad_norm: gradients of each network are clipped to this norm.
        optimizer: of all networks; ``muon`` takes matrices inside the layers further a step, for models that learn from
            random weights.
        on_truncation: what an episode that a limit cut off teaches (``Episode.cut_off``). ``fail``: its rewards, which
            are 0, and V after it is 0, as if it had ended there; ``drop``: nothing; ``bootstrap``: V of the state in
            which it was cut off is added to its last reward.
    """

    policy_lr: float
    epochs: int = 1
    batch_size: int = 128
    warmup_ratio: float = 0.03
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    optimizer: OptimizerName = "adamw"
    on_truncation: OnTruncation = "fail"

    needs: ClassVar[frozenset[str]] = frozenset()
    """Networks beside the policy: a subset of ``{"reference", "value"}``."""

    extra: ClassVar[tuple[str, ...]] = ()
    """What its losses read of ``Batch.extra``: ``behavior_logprobs``, ``task``, or names of numbers in the ``info`` of
    every episode that ``select`` returns."""

    bootstraps: ClassVar[bool] = False
    """Whether its losses ask ``with_cut_off_values`` for the rewards, as ``on_truncation=bootstrap`` wants."""

    reads_success_only: ClassVar[bool] = False
    """Whether episodes are told apart by success alone, so that what their rewards say beside is lost."""

    def __post_init__(self) -> None:
        """Check the settings."""
        require_types(self)
        require_finite(self, except_for=("max_grad_norm",))
        require_positive(self, "policy_lr", "epochs", "batch_size", "max_grad_norm")
        require_whole(self, "epochs", "batch_size")
        require_one_of(self, "optimizer", get_args(OptimizerName))
        require_one_of(self, "on_truncation", get_args(OnTruncation))
        if self.on_truncation == "bootstrap" and not self.bootstraps:
            raise ValueError(
                f"on_truncation=bootstrap takes V of the state in which an episode was cut off, and "
                f"{type(self).__name__} learns from no V; choose fail or drop, or an algorithm with a value network "
                "(oreo, dqo, awr, iql, direct-advantage)"
            )
        if not 0 <= self.warmup_ratio < 1:
            raise ValueError(f"warmup_ratio must be in [0, 1), got {self.warmup_ratio}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay}")

    @property
    def reference_use(self) -> ReferenceUse:
        """What ``losses`` reads of the reference.

        ``logprobs``: those of the examples' episodes and of those ``scored_beside`` are taken once, before the first
        step, every batch brings them, and the reference is let go of.
        """
        return "logprobs" if "reference" in self.needs else "nothing"

    def learnable(self, buffer: EpisodeBuffer) -> EpisodeBuffer:
        """Return what ``select`` is to choose from: the buffer, with ``on_truncation=drop`` what no limit cut off.

        Raises:
            NothingToLearnError: all of it was cut off.
        """
        if self.on_truncation != "drop" or not buffer.columns.cut_off.any():
            return buffer
        kept = buffer[~buffer.columns.cut_off]
        if not kept:
            raise NothingToLearnError(
                f"a limit cut off every one of the {len(buffer)} episodes, and on_truncation=drop leaves them out; "
                "collect with a higher limit (sampling.max_new_tokens, env.options.max_steps), or choose fail"
            )
        return kept

    def with_cut_off_values(self, batch: Batch, token_values: Tensor) -> Batch:
        """Return a batch whose rewards, with ``on_truncation=bootstrap``, hold V where episodes were cut off.

        Args:
            batch: of episodes.
            token_values: column t is V just before token t, reward units, float [B, T + 1].
        """
        return with_final_values(batch, token_values) if self.on_truncation == "bootstrap" else batch

    def select(self, buffer: EpisodeBuffer, rng: np.random.Generator) -> Sequence[Example]:
        """Choose the examples to learn from; raises ``NothingToLearnError`` when there are none.

        They are a list, or, so that none is made before it is read, the buffer, a part of it (``buffer[indices]``) or
        ``Pairs`` of it. They may be episodes of the buffer, or others made of them with ``dataclasses.replace``: with
        numbers of one's own in ``info``, other rewards, other tokens. What is returned is learned from, and the
        log-probabilities of the reference are of that. With equal buffers and generators the episodes must be the same.
        """
        raise NotImplementedError

    def weight(self, batch: Batch) -> float:
        """Count what the means of ``losses`` are over, so that micro-batches add up to one big batch."""
        raise NotImplementedError

    def begin_run(self, models: Models, examples: Sequence[Example]) -> None:
        """Put into ``models`` what the algorithm adapts itself; a checkpoint then replaces it."""

    def scored_beside(self, examples: Sequence[Example], models: Models) -> list[Episode]:
        """Return the episodes beside those of the examples that ``begin_step`` scores with the reference."""
        return []

    def begin_step(self, examples: Sequence[Example], models: Models, micro_batches: MicroBatches) -> Any:
        """Compute, before the micro-batches of an optimiser step, what needs all of its examples."""
        return None

    def losses(self, batch: Batch, models: Models, context: Any = None) -> Losses:
        """Score a micro-batch, whose rows are the episodes of its examples; ``context`` is from ``begin_step``."""
        raise NotImplementedError

    def end_step(self, models: Models, metrics: Mapping[str, float]) -> None:
        """Adapt what ``begin_run`` put into ``models`` after an optimiser step, given the metrics of ``losses``."""


@dataclass(frozen=True, kw_only=True)
class EpisodeAlgorithm(Algorithm[Episode]):
    """An algorithm whose example is one episode and whose means are over episodes."""

    def select(self, buffer: EpisodeBuffer, rng: np.random.Generator) -> Sequence[Episode]:
        """Take every episode."""
        if not buffer:
            raise NothingToLearnError(
                "this buffer has no episode, so there is nothing to learn from; collect or import some"
            )
        return buffer

    def weight(self, batch: Batch) -> float:
        """Count episodes."""
        return float(len(batch))


def score(batch: Batch, models: Models, *, kl: KLEstimate | None = None) -> TokenScores:
    """Score a batch with the policy and the reference, which is not asked where the batch brings what it would say.

    Args:
        batch: with ``ref_logprobs`` or without; with them ``kl`` is ``k3`` or None, see ``Algorithm.reference_use``.
        models: policy and reference.
        kl: which estimate of the KL to the reference to return.
    """
    if batch.ref_logprobs is None:
        return models.policy.score(batch, models.reference, kl=kl)
    scores = models.policy.score(batch)
    estimate = None if kl is None else k3_estimate(scores.logprobs, batch.ref_logprobs)
    return replace(scores, ref_logprobs=batch.ref_logprobs, kl=estimate)


def require_positive(config: object, *names: str) -> None:
    """Raise ValueError for the first of these fields of ``config`` that is not above 0."""
    for name in names:
        if not getattr(config, name) > 0:
            raise ValueError(f"{type(config).__name__}.{name} must be > 0, got {getattr(config, name)}")


def require_whole(config: object, *names: str) -> None:
    """Raise ValueError for the first of these fields of ``config`` that is not an integer."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{type(config).__name__}.{name} must be an integer, got {value!r}")


def require_one_of(config: object, name: str, choices: Sequence[str]) -> None:
    """Raise ValueError unless this field of ``config`` is one of ``choices``; the message offers the closest one."""
    value = getattr(config, name)
    if value not in choices:
        close = difflib.get_close_matches(str(value), choices, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"{type(config).__name__}.{name} must be one of {', '.join(choices)}, got {value!r}{hint}")


def mean_entropy(scores: TokenScores, mask: Tensor) -> dict[str, float]:
    """Return the metric ``entropy``: that of the policy, nats, mean over the tokens of ``mask``, bool [B, T].

    It is {} where not computed, or without a token.
    """
    if scores.entropy is None or not mask.any():
        return {}
    return {"entropy": subset_mean(scores.entropy, mask)}


def subset_mean(x: Tensor, mask: Tensor) -> Mean:
    """Return the mean of the entries of ``x`` where ``mask``, bool of the same shape, is True; there must be one."""
    chosen = x.detach()[mask]
    return Mean(chosen.mean().item(), len(chosen))


def token_log_ratio(scores: TokenScores) -> Tensor:
    """Return log pi - log pi_ref of each token, nats, float [B, T]; needs scores taken with a reference."""
    if scores.ref_logprobs is None:
        raise ValueError("these scores were taken without a reference, so there is no log-ratio")
    return scores.logprobs - scores.ref_logprobs


def transcript_log_ratio(scores: TokenScores) -> Tensor:
    """Return log pi - log pi_ref of all action tokens of a transcript, nats, float [B]."""
    return token_log_ratio(scores).sum(dim=1)
