"""What is measured of a value on samples of a policy, with intervals.

Knows: which figure is taken of what, and that questions are the independent units. Does not know: the equations
(``oreo_algos.value_quality``), where samples come from, how figures are shown.

Names are ``figure/place`` for those of states and ``room/figure`` for the others: ``auc/final``, ``ordering/25%``,
``bellman/one_step``, ``steps/explicit_auc``, ``localisation/explicit``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oreo_agents.evaluation.statistics import cluster_interval
from oreo_agents.value_quality.path import ValuePath
from oreo_algos.episode import Episode
from oreo_algos.value_quality import (
    Undefined,
    auc,
    brier_score,
    calibration_error,
    explained_variance,
    first_mistake_found,
    grouped_auc,
    one_step_residuals,
    path_residuals,
    targets_to_go,
)

PLACES = {"start": 0.0, "25%": 0.25, "50%": 0.5, "75%": 0.75, "final": 1.0}
"""Where V is judged: the share of an episode's steps that are done, see ``ValuePath.at``.

At the start all samples of a question are in one state, so that within-question ordering is 0.5 but for rounding.
"""

Array = NDArray[Any]


@dataclass(frozen=True)
class Reading:
    """One sample with what is known of it.

    Attributes:
        episode: the sample.
        path: V along it.
        right: whether each step is right, bool [K]; None where nobody can tell.
    """

    episode: Episode
    path: ValuePath
    right: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Figure:
    """A number with its 95% interval, a bootstrap over questions; or the reason why there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


def measure(readings: Sequence[Reading], *, beta: float, implicit: bool) -> dict[str, Figure]:
    """Take every figure.

    Args:
        readings: at least one.
        beta: reward units per nat of the paths' log-ratios.
        implicit: the log-ratios are there, so that ``beta * l`` is judged as an advantage too.

    Returns:
        Figures by name; those of steps are absent where no rightness is known.
    """
    tasks = np.unique([reading.episode.task_id for reading in readings], return_inverse=True)[1]
    solved = np.array([reading.episode.success for reading in readings])
    targets = [targets_to_go(r.path.rewards, beta * r.path.log_ratios) for r in readings]
    figures: dict[str, Figure] = {}
    for name, place in PLACES.items():
        states = [reading.path.at(place) for reading in readings]
        values = np.array([reading.path.values[state] for reading, state in zip(readings, states, strict=True)])
        to_go = np.array([target[state] for target, state in zip(targets, states, strict=True)])
        figures |= {
            f"auc/{name}": _estimate(auc, tasks, values, solved),
            f"ordering/{name}": _estimate(grouped_auc, tasks, values, solved, group=np.zeros_like(tasks)),
            f"ece/{name}": _estimate(calibration_error, tasks, values, solved, interval=False),
            f"brier/{name}": _estimate(brier_score, tasks, values, solved),
            f"explained_variance/{name}": _estimate(explained_variance, tasks, values, to_go),
        }
    sizes = [len(reading.path.values) for reading in readings]
    for name, residuals in (("one_step", one_step_residuals), ("path", path_residuals)):
        found = [residuals(r.path.values, r.path.rewards, beta * r.path.log_ratios) for r in readings]
        figures[f"bellman/{name}"] = _estimate(_mean, np.repeat(tasks, sizes), np.abs(np.concatenate(found)))
    return figures | _measure_steps(readings, tasks, beta if implicit else None)


def _measure_steps(readings: Sequence[Reading], tasks: Array, beta: float | None) -> dict[str, Figure]:
    """Take the figures of advantages against the rightness of steps; ``beta``: of the implicit ones, if any."""
    known = [(reading, task) for reading, task in zip(readings, tasks, strict=True) if reading.right is not None]
    if not known:
        return {}
    rights = [reading.right for reading, _ in known if reading.right is not None]
    owners = np.array([task for _, task in known])
    sizes = [len(right) for right in rights]
    flawed = [k for k, right in enumerate(rights) if not right.all()]
    kinds = {"explicit": [reading.path.advantages for reading, _ in known]}
    if beta is not None:
        kinds["implicit"] = [beta * reading.path.log_ratios[:-1] for reading, _ in known]
    right, task, episode = np.concatenate(rights), np.repeat(owners, sizes), np.repeat(np.arange(len(known)), sizes)
    figures: dict[str, Figure] = {}
    for kind, advantages in kinds.items():
        every = np.concatenate(advantages)
        found = np.array([first_mistake_found(advantages[k], rights[k]) for k in flawed])
        figures |= {
            f"steps/{kind}_auc": _estimate(auc, task, every, right),
            f"steps/{kind}_auc_within_episodes": _estimate(grouped_auc, task, every, right, group=episode),
            f"localisation/{kind}": _estimate(_mean, owners[flawed], found),
        }
    chance = np.array([1 / sizes[k] for k in flawed])
    return figures | {"localisation/chance": _estimate(_mean, owners[flawed], chance, interval=False)}


def _estimate(
    figure: Callable[..., float],
    tasks: Array,
    *columns: Array,
    group: Array | None = None,
    interval: bool = True,
) -> Figure:
    """Take a figure of columns, one row a state, episode or step, with its interval over tasks.

    With ``group``, which lies within tasks, the figure gets as its last argument which group each row belongs to; a
    task that is drawn twice has two of each.
    """

    def of(rows: NDArray[np.int64], draws: NDArray[np.int64]) -> float:
        groups = [] if group is None else [draws * (int(group.max()) + 1) + group[rows]]
        return figure(*(column[rows] for column in columns), *groups)

    try:
        value = of(np.arange(len(tasks)), tasks)
    except Undefined as error:
        return Figure(None, reason=str(error))
    low, high = (cluster_interval(of, tasks, undefined=(Undefined,)) if interval else None) or (None, None)
    return Figure(value, low, high)


def _mean(values: Array) -> float:
    if values.size == 0:
        raise Undefined("no episode has a wrong step")
    return float(np.mean(values))
