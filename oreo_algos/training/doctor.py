"""What looks wrong in a buffer of episodes, and in the metrics of a training run.

Knows: episodes, names of metrics. Does not know: text, tokenizers, evaluation, where warnings go (`warning_log`).
Every warning, what it means and what to do: ``docs/doctor.md``.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import numpy as np

from oreo_algos.storage.buffer import EpisodeBuffer
from oreo_algos.training.warning_log import Finding


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """From where on something is worth a warning: well outside of what healthy runs show.

    Attributes:
        truncated: share of episodes that a limit cut off. Long solutions go first, so more of them bias the data.
        unparsable: share of finished episodes without an answer that can be read. More than one in twenty is no slip:
            the format is not learned, or not the grader's.
        unread_answers: share of an algorithm's held-out answers that were cut off or cannot be read.
        repeated_tasks: share of the held-out tasks whose question is that of another. GSM8K and MATH
            have none; with a fifth of them intervals are about a tenth too narrow.
        refused_actions: share of a policy's actions that its environment refused. Of the expert's 0.6% are, and
            15% of its demonstrations with a quarter of mistakes.
        read_episodes: episodes, evenly spaced, whose tokens are read. A wrong mask is one of code, in nearly all of
            them.
        window: steps whose median is judged, so that half of them would have to be outliers to mislead it.
        value_updates: of V before it is judged. Prototypes with 122 of them ordered answers with an AUC of .68 and
            more: a V without spread by then is no matter of patience.
        value_spread: standard deviation of V over states, as a share of that of the returns. A calibrated V explains
            the square of it, here a ten-thousandth of the variance.
        kl: of the policy to its reference, nats a token. Healthy runs stayed below 0.08; at 1 what the policy says
            is on average e times as likely as under the reference, and no longer what the episodes are about.
        kl_growth: factor from one window to the next. The KL begins at 0, so this counts above ``kl_floor`` only.
        kl_floor: nats a token, four times what healthy runs reached.
        temperature: ``temperature/effective`` as a multiple of beta. At 3, two thirds of what holds the policy at the
            reference is the regulariser, and beta is no longer the temperature of anything.
        chosen_fall: fall of the log-probability of chosen responses, as a share of the start's. DPO may lower
            both sides; healthy runs raised it, or lowered it by a quarter. 1 squares the probability.
        chosen_floor: nats. Below it such a fall is a few tokens, as in the short answers of a sure policy.
        length_factor: by which answers became longer or shorter than those of the start, in tokens.
        length_tasks: needed to say so: among fewer one answer that rambles makes the mean.
    """

    truncated: float = 0.05
    unparsable: float = 0.05
    unread_answers: float = 0.05
    repeated_tasks: float = 0.2
    refused_actions: float = 0.25
    read_episodes: int = 64
    window: int = 10
    value_updates: int = 100
    value_spread: float = 0.01
    kl: float = 1.0
    kl_growth: float = 5.0
    kl_floor: float = 0.3
    temperature: float = 3.0
    chosen_fall: float = 1.0
    chosen_floor: float = 10.0
    length_factor: float = 1.5
    length_tasks: int = 20

    def __post_init__(self) -> None:
        """Check that there is something to cross."""
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int if field.type is int else int | float):
                kind = "an integer" if field.type is int else "a number"
                raise ValueError(f"doctor.{name} must be {kind}, got {value!r}")
            if not value > 0:
                raise ValueError(f"doctor.{name} must be > 0, got {value}")


def examine_outcomes(buffer: EpisodeBuffer) -> list[Finding]:
    """Check that rewards tell episodes apart, for algorithms that compare them.

    Where no task has two episodes, nothing is said of tasks: such data is collected on purpose.
    """
    columns = buffer.columns
    returns = np.unique(columns.total_reward)
    if len(returns) == 1:
        return [
            Finding(
                "equal_rewards",
                f"all {len(buffer)} episodes have the return {returns[0]:g}; there is nothing to tell good actions "
                "from bad ones by; check the grader, collect on easier or harder tasks, or sample at a higher "
                "temperature",
            )
        ]
    samples = np.bincount(columns.task)
    right = np.bincount(columns.task, columns.success)
    several = int((samples > 1).sum())
    if several and not ((right > 0) & (right < samples)).any():
        return [
            Finding(
                "no_mixed_groups",
                f"none of the {several} tasks with several episodes has both a success and a failure; DPO has no "
                "pairs, and a value learns which tasks are hard and not which steps are good; collect more samples a "
                "task, sample at a higher temperature, or choose tasks that are sometimes solved",
            )
        ]
    return []


def examine_rewards(buffer: EpisodeBuffer) -> list[Finding]:
    """Check that success says all that rewards do, for algorithms that read nothing else."""
    columns = buffer.columns
    returns = sorted({round(value, 6) for value in np.unique(columns.total_reward).tolist()})
    told_apart = (columns.success == (columns.total_reward > sum(returns) / 2)).all()
    if len(returns) == 1 or (len(returns) == 2 and told_apart):
        return []
    solved = int(columns.success.sum())
    return [
        Finding(
            "rewards_unread",
            f"the returns of these {len(buffer)} episodes take {len(returns)} values, from {returns[0]:g} to "
            f"{returns[-1]:g}, and this algorithm reads only whether an episode is a success, as {solved} of them are; "
            "what the rewards say beside is not learned from: take an algorithm that reads rewards (oreo, dqo), or "
            "check from which reward on an episode counts as a success (`oreo data import --success-threshold`)",
        )
    ]


class TrainingDoctor:
    """Watches the metrics of one training run, step by step.

    What it finds depends on the metrics it is shown and their order alone, so a run that continues shows it those that
    are on disk first.
    """

    def __init__(
        self, thresholds: Thresholds, reward_spread: float, *, beta: float | None = None, alpha: float | None = None
    ) -> None:
        """Begin before the first step.

        Args:
            thresholds: from where on to warn.
            reward_spread: standard deviation of the returns of the episodes learned from, reward units.
            beta: temperature of the algorithm's residual, reward units per nat; None: it has none.
            alpha: weight of the algorithm's regulariser; None: it has none.
        """
        self._thresholds, self._reward_spread, self._beta, self._alpha = thresholds, reward_spread, beta, alpha
        self._series: defaultdict[str, list[float]] = defaultdict(list)

    def observe(self, metrics: Mapping[str, float | None]) -> list[Finding]:
        """Add the metrics of a step, as they are logged, and return what looks wrong now, found before or not."""
        for name in _WATCHED:
            value = metrics.get(f"train/{name}")
            if value is not None and math.isfinite(value):
                self._series[name].append(value)
        checks: tuple[Callable[[], Finding | None], ...] = (self._value, self._kl, self._temperature, self._chosen)
        return [finding for check in checks if (finding := check()) is not None]

    def _value(self) -> Finding | None:
        limits, updates = self._thresholds, len(self._series["values/std"])
        if updates < max(limits.value_updates, limits.window):
            return None
        spread = self._now("values/std")
        if spread >= limits.value_spread * self._reward_spread:
            return None
        return Finding(
            "flat_value",
            f"after {updates} updates the standard deviation of V over states is {spread:.2g}, that of the returns "
            f"{self._reward_spread:.2g}; V tells no state from another, so it assigns no credit and a search by it is "
            "a draw; raise value_lr or value_warmup_steps, and look whether losses/value falls",
        )

    def _kl(self) -> Finding | None:
        limits, window = self._thresholds, self._thresholds.window
        series = self._series["kl"]
        if len(series) < window:
            return None
        now = self._now("kl")
        before = float(np.median(series[-2 * window : -window])) if len(series) >= 2 * window else math.inf
        if now <= limits.kl and not (now > limits.kl_floor and now > limits.kl_growth * before):
            return None
        growth = f", {before:.2g} in the {window} steps before" if math.isfinite(before) else ""
        return Finding(
            "kl_blow_up",
            f"the KL to the reference is {now:.2g} nats a token (median of {window} steps){growth}; the policy leaves "
            "what the episodes can tell about, and may no longer write sense; lower policy_lr, raise alpha, or set "
            "kl_target",
        )

    def _temperature(self) -> Finding | None:
        limits, beta, alpha = self._thresholds, self._beta, self._alpha
        if not beta or not alpha or len(self._series["temperature/effective"]) < limits.window:
            return None
        now = self._now("temperature/effective")
        if now <= limits.temperature * beta * (1 + 1e-6):  # what is advised below must not be warned of again
            return None
        if self._series["alpha"]:
            advice = "raise kl_target, from which alpha follows, or raise beta"
        else:
            # now - beta is proportional to alpha / beta.
            share = (now - beta) / ((limits.temperature - 1) * beta)
            advice = (
                f"for at most {limits.temperature:g} times beta set alpha={_two_digits(alpha / share, math.floor)}, or "
                f"keep alpha and set beta={_two_digits(beta * math.sqrt(share), math.ceil)}"
            )
        return Finding(
            "alpha_sets_temperature",
            f"the effective temperature, beta + alpha / (2 beta n) with n tokens in a step, is {now:.3g}, that is "
            f"{now / beta:.1f} times beta={beta:g}; alpha, not beta, holds the policy at the reference, and a smaller "
            f"beta alone makes it warmer; {advice}; if the policy is meant to stay near the reference, leave both",
        )

    def _chosen(self) -> Finding | None:
        limits = self._thresholds
        names = ("logps/chosen", "rewards/chosen", "rewards/rejected")
        if any(len(self._series[name]) < limits.window + _START for name in names):
            return None
        start, *rewards = (float(np.median(self._series[name][:_START])) for name in names)
        now, *rewards_now = map(self._now, names)
        margin, margin_now = rewards[0] - rewards[1], rewards_now[0] - rewards_now[1]
        if start - now < max(limits.chosen_floor, -limits.chosen_fall * start) or margin_now <= margin:
            return None
        return Finding(
            "chosen_logprob_collapse",
            f"logps/chosen fell from {start:.4g} to {now:.4g} nats while the reward margin grew from {margin:.2g} to "
            f"{margin_now:.2g}; the policy unlearns right answers together with wrong ones, only more slowly; lower "
            "policy_lr, raise beta, or train fewer epochs",
        )

    def _now(self, name: str) -> float:
        """Return the median of the last window."""
        return float(np.median(self._series[name][-self._thresholds.window :]))


def _two_digits(x: float, towards: Callable[[float], int]) -> str:
    """Write a number above 0 with two digits, rounded down or up but for noise in the last bits."""
    unit = 10.0 ** (math.floor(math.log10(x)) - 1)
    noise = 1e-6 if towards is math.floor else -1e-6
    return f"{towards(x / unit + noise) * unit:.2g}"


# Steps that are the start: more would miss a fall within a few steps, and one could be an outlier.
_START = 3

_WATCHED = (
    "values/std",
    "kl",
    "alpha",
    "temperature/effective",
    "logps/chosen",
    "rewards/chosen",
    "rewards/rejected",
)
