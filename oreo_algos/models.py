"""What algorithms and the trainer know about networks: two small protocols.

Knows: the shapes that a policy and a value network must return.
Does not know: model families, tokenizers, checkpoints. The tabular models of the tests implement both protocols too.
"""

# B episodes, T tokens

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from oreo_algos.batch import Batch

KLEstimate = Literal["exact", "k3", "forward"]


@dataclass(frozen=True, repr=False)
class TokenScores:
    """What a policy says of the tokens of a batch; everything is 0 where ``step_id`` < 0.

    Attributes:
        logprobs: log pi of token t given the tokens before it, nats, float [B, T].
        ref_logprobs: the same under the reference, without gradient, float [B, T]; None without a reference.
        kl: estimate of KL(pi || ref) (``forward``: KL(ref || pi)) of the choice made at token t, nats,
            float [B, T]; None unless asked for.
        entropy: entropy of pi at token t, nats, without gradient, float [B, T]; None where not computed.
    """

    logprobs: Tensor
    ref_logprobs: Tensor | None = None
    kl: Tensor | None = None
    entropy: Tensor | None = None

    def __repr__(self) -> str:
        """One line: the shape, and what is there."""
        there = [name for name, column in vars(self).items() if column is not None]
        return f"TokenScores({list(self.logprobs.shape)}: {', '.join(there)})"


class Network(Protocol):
    """The part of ``torch.nn.Module`` that the trainer uses."""

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yield all parameters; those that require a gradient are trained."""
        ...

    def named_parameters(self, *, remove_duplicate: bool = True) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Yield names and parameters; one that has two names under both, unless duplicates are removed."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to continue training."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Load what ``state_dict`` returned."""
        ...


class Policy(Network, Protocol):
    """A distribution over the next token."""

    max_length: int
    """Longest transcript the network can read, tokens."""

    def score(self, batch: Batch, reference: "Policy | None" = None, kl: KLEstimate | None = None) -> TokenScores:
        """Score the action tokens of a batch in one forward pass (and one of the reference)."""
        ...


class Value(Network, Protocol):
    """A function from states to the reward still to come, KL term included."""

    def token_values(self, batch: Batch) -> Tensor:
        """V of the state just before each token, reward units, float [B, T + 1]; column 0 is masked."""
        ...


@dataclass
class Models:
    """The networks of one training run, and how far the policy has come.

    Attributes:
        policy: trained.
        reference: frozen; None when the algorithm does not need one, or once what it reads of it is known.
        value: trained; None when the algorithm does not need one.
        policy_is_reference: no update has moved the policy from the reference yet, so that every
            log-ratio is 0 and a step that trains the value only reads neither. A step that trains the policy
            compares its scores with those kept of the reference, and finds 0 to rounding.
        policy_frozen: this step trains the value only (value warm-up).
        target: moving average of the policy; None unless the algorithm keeps one.
        numbers: what else the algorithm adapts from step to step, by name; part of a checkpoint.
    """

    policy: Policy
    reference: Policy | None = None
    value: Value | None = None
    policy_is_reference: bool = False
    policy_frozen: bool = False
    target: Policy | None = None
    numbers: dict[str, float] = field(default_factory=dict)
