"""Numbers that micro-batches contribute to: what each brings is put together first, the ratio is taken once a step.

Knows: sums, and what of a part is enough to tell the number of the whole. Does not know: what the numbers mean, where
they go (``training.metrics_writer``).
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self


class Statistic(float):
    """A number of a part, with all that is needed of the part for the number of the whole; can be pickled."""

    parts: tuple[Any, ...]

    def __new__(cls, *parts: Any) -> Self:
        """Take the number of ``parts``, which say everything about a part."""
        number = super().__new__(cls, cls.number(*parts))
        number.parts = parts
        return number

    def __getnewargs__(self) -> tuple[Any, ...]:
        """Return what a copy is made of."""
        return self.parts

    @staticmethod
    def number(value: float, *counts: float) -> float:
        """Return the number that the parts come to; NaN where they do not define it."""
        return value

    @classmethod
    def join(cls, several: Sequence[Self]) -> Self:
        """Return the statistic of all parts together."""
        raise NotImplementedError


class Mean(Statistic):
    """``Mean(value, count)``: a mean over ``count`` things, whatever the weight of its micro-batch."""

    @property
    def count(self) -> float:
        """Things, or their weight."""
        return float(self.parts[1])

    @classmethod
    def join(cls, several: Sequence[Self]) -> Self:
        """Weigh by the counts."""
        count = sum(one.count for one in several)
        return cls(sum(one * one.count for one in several) / count, count)


class Minimum(Statistic):
    """``Minimum(value)``: the smallest of its micro-batch."""

    @classmethod
    def join(cls, several: Sequence[Self]) -> Self:
        """Keep the smallest."""
        return min(several)


class Maximum(Statistic):
    """``Maximum(value)``: the largest of its micro-batch."""

    @classmethod
    def join(cls, several: Sequence[Self]) -> Self:
        """Keep the largest."""
        return max(several)


class Median(Statistic):
    """``Median(values)``: the median of all values of a step, which only they themselves can tell."""

    @staticmethod
    def number(values: Sequence[float]) -> float:  # type: ignore[override]
        """Return the middle value, or the mean of the two in the middle."""
        return statistics.median(values)

    @classmethod
    def join(cls, several: Sequence[Self]) -> Self:
        """Put all values together."""
        return cls([value for one in several for value in one.parts[0]])


class Deviation(Statistic):
    """``Deviation(value, count, mean)``: the standard deviation of ``count`` things around their ``mean``."""

    @property
    def count(self) -> float:
        """Things."""
        return float(self.parts[1])

    @property
    def mean(self) -> float:
        """Their mean."""
        return float(self.parts[2])

    @classmethod
    def join(cls, several: Sequence[Self]) -> Self:
        """Add the squares within the parts to those between them (Chan, Golub and LeVeque 1983)."""
        count = sum(one.count for one in several)
        mean = sum(one.mean * one.count for one in several) / count
        squares = sum((one**2 + (one.mean - mean) ** 2) * one.count for one in several)
        return cls(math.sqrt(squares / count), count, mean)


class ExplainedVariance(Statistic):
    """``ExplainedVariance(target, residual)``, of two ``Deviation``: the share of the target's variance that is gone.

    Undefined, NaN, where all targets are the same.
    """

    @staticmethod
    def number(target: Deviation, residual: Deviation) -> float:  # type: ignore[override]
        """Return ``1 - Var(residual) / Var(target)``."""
        return 1 - (residual / target) ** 2 if target > 0 else math.nan

    @classmethod
    def join(cls, several: Sequence[Self]) -> Self:
        """Join targets and residuals, each for itself."""
        return cls(*(Deviation.join(each) for each in zip(*(one.parts for one in several), strict=True)))


class WeightedMean:
    """Metrics of a step from those of its micro-batches; a name absent from some is taken over the others.

    A ``Statistic`` joins in its own way; a plain number is a mean with the weight of its micro-batch.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._contributions: defaultdict[str, list[Statistic]] = defaultdict(list)

    def add(self, metrics: Mapping[str, float], weight: float) -> None:
        """Contribute metrics with a weight."""
        for name, value in metrics.items():
            self._contributions[name].append(value if isinstance(value, Statistic) else Mean(value, weight))

    def join(self, others: Iterable["WeightedMean"]) -> None:
        """Take in what others were given, such as those of other processes."""
        for other in others:
            for name, several in other._contributions.items():
                self._contributions[name] += several

    def result(self) -> dict[str, float]:
        """Return the numbers of the step so far, as plain ones; what a step does not define is left out."""
        joined = {name: type(several[0]).join(several) for name, several in self._contributions.items()}
        return {
            name: float(one)
            for name, one in joined.items()
            if not (isinstance(one, ExplainedVariance) and math.isnan(one))
        }
