"""Which task comes next, and which environment of a vector gets which.

Knows: the orders, how a vector shares one, what the options of ``reset`` may name.
Does not know: tasks; episodes (``base``).
Gymnasium tells no environment of a vector its place. When a vector batches the space of its first environment,
``SyncVectorEnv`` has all of them: at that moment they are told theirs, whenever they were made. ``AsyncVectorEnv`` has
the functions that will make them in other processes: these are wrapped, so that what they make is told there. Where
wrappers have put other spaces in the place of both of ours, none is batched: then the first ``reset`` looks around.
Vectors of other libraries tell nothing, so that there the place is an argument.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, async_vector_env
from gymnasium.vector.utils import batch_space

from oreo_envs.checks import choose
from oreo_envs.spaces import FreeText, TextBatch

ORDERS = ("random", "shuffled", "sequential")

UNBOUNDED = 2**31
"""Task numbers of a procedural environment are drawn below this."""

LAST_INDEX = 10**18
"""Where tasks are made without end their numbers are below this: task ids and arrays of infos hold no larger ones."""

_ORDER_STREAM = 0x0E0_4
_WHERE = (
    "Gymnasium's SyncVectorEnv and AsyncVectorEnv (gym.make_vec) tell it, and so does ALFWorld's own vector; elsewhere "
    "it is given: gym.make(ID, place=(i, n)) for environment i of n"
)


@dataclass(frozen=True)
class Seat:
    """Where an environment stands in its vector: ``index`` of ``count``.

    Attributes:
        group: shared by all of the vector.
        given: by an argument, so that no vector says another.
    """

    index: int = 0
    count: int = 1
    group: dict[str, int] = field(default_factory=dict)
    given: bool = False

    @classmethod
    def of(cls, place: Any) -> Seat | None:
        """Return the place in an argument: None, a ``Seat``, or the pair (index, count).

        Raises:
            ValueError: it is none of these.
        """
        if place is None or isinstance(place, cls):
            return place
        pair = tuple(place) if isinstance(place, list | tuple) else ()
        if len(pair) != 2 or not all(type(number) is int for number in pair) or not 0 <= pair[0] < pair[1]:
            raise ValueError(f"place must be (i, n), environment i of n with 0 <= i < n, got {place!r}")
        return cls(*pair, given=True)


class Order:
    """The tasks that follow when ``reset`` names none.

    Positions are counted over the whole vector: environment i of n has the positions i, i + n, i + 2n, ..., and in
    each run of as many positions as there are tasks every task occurs once.
    """

    def __init__(self, name: str) -> None:
        """Take the name of an order.

        Raises:
            ValueError: there is none of this name.
        """
        self.name = choose("order", name, ORDERS)
        self.restart()

    def restart(self) -> None:
        """Start again, as if no task had been played."""
        self._count = self._seed = 0

    def begin(self, seed: int, place: Seat) -> None:
        """Start again, as ``reset(seed=...)`` does; a vector gives environment i the seed s + i.

        Raises:
            ValueError: the environments of a vector would have orders of different seeds.
        """
        self._count = 0
        if self.name != "shuffled":
            return
        self._seed = seed - place.index
        if place.index == 0:
            place.group["seed"] = self._seed
        if self._seed < 0 or place.group.get("seed", self._seed) != self._seed:
            raise ValueError(
                "order='shuffled': environments whose seeds do not count up would play the same tasks; reset the whole "
                "vector with one seed, reset(seed=s)"
            )

    def next(self, num_tasks: int | None, place: Seat, rng: np.random.Generator) -> int:
        """Return the index of the next task."""
        if self.name == "random":
            return int(rng.integers(num_tasks or UNBOUNDED))
        position = place.index + self._count * place.count
        self._count += 1
        if num_tasks is None:
            return position
        epoch, index = divmod(position, num_tasks)
        return index if self.name == "sequential" else int(_shuffled(self._seed, epoch, num_tasks)[index])


@lru_cache(maxsize=8)
def _shuffled(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng(np.random.SeedSequence([_ORDER_STREAM, seed, epoch])).permutation(count)


def lists_tasks(options: Any) -> bool:
    """Whether options of ``reset`` hold something for each environment of a vector."""
    several = (list, tuple, np.ndarray)
    values = options.values() if isinstance(options, Mapping) else ()
    return isinstance(options, several) or any(isinstance(value, several) for value in values)


def own_options(options: Any, place: Seat | None) -> dict[str, Any]:
    """Return what the options of ``reset`` say to the environment at this place.

    Args:
        options: "index" or "task_id" of one task; of one task an environment, as a list; or a list of such mappings.
        place: of the environment, None: it does not know.

    Raises:
        ValueError: unknown options, a list for an environment that does not know its place, or one of another length.
    """
    if isinstance(options, list | tuple):
        options = _entry("options", options, place)
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise ValueError(f"options of reset must be a mapping or a list of mappings, got {options!r:.80}")
    for key in options:
        choose("reset option", key, ("index", "task_id"))
    if len(options) == 2:
        raise ValueError("give the reset option 'index' or 'task_id', not both")
    return {
        key: _entry(f"options[{key!r}]", value, place) if isinstance(value, list | tuple | np.ndarray) else value
        for key, value in options.items()
    }


def _entry(what: str, values: Any, place: Seat | None) -> Any:
    if place is None:
        raise ValueError(f"{what} is a list, and this environment does not know its place in a vector: {_WHERE}")
    if (isinstance(values, np.ndarray) and values.ndim != 1) or len(values) != place.count:
        raise ValueError(f"{what} must hold one task for each of {place.count} environments, got {values!r:.120}")
    return values[place.index]


@batch_space.register(FreeText)
def _batch(space: FreeText, n: int = 1) -> TextBatch:
    """Batch the space, and tell the environments of the vector that is being made their places in it."""
    frame = sys._getframe(1)
    while frame is not None:
        vector = frame.f_locals.get("self") if frame.f_code.co_name == "__init__" else None
        if isinstance(vector, SyncVectorEnv):
            _seat(getattr(vector, "envs", ()))
            break
        if isinstance(vector, AsyncVectorEnv):
            if not any(isinstance(make, _Placed) for make in vector.env_fns):
                vector.env_fns = [_Placed(make, i, len(vector.env_fns)) for i, make in enumerate(vector.env_fns)]
            break
        frame = frame.f_back  # type: ignore[assignment]
    return TextBatch([deepcopy(space)] * n)


def look_around() -> None:
    """Tell environments their places where one of them is being reset by a vector that has batched none of our spaces.

    Raises:
        ValueError: it is in another process, where nobody knows how many there are.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is async_vector_env._async_worker.__code__:
            raise ValueError(f"this environment does not know its place in a vector: {_WHERE}")
        if frame.f_code is SyncVectorEnv.reset.__code__ or frame.f_code is SyncVectorEnv.step.__code__:
            _seat(frame.f_locals["self"].envs)
            return
        frame = frame.f_back  # type: ignore[assignment]


def _seat(envs: Sequence[Any]) -> None:
    """Tell environments their places; their orders start again."""
    ours = [(index, env.unwrapped) for index, env in enumerate(envs) if _order_of(env) is not None]
    seen: dict[int, int] = {}
    group: dict[str, int] = {}
    for index, env in ours:
        if (other := seen.setdefault(id(env), index)) != index:
            raise ValueError(f"environments {other} and {index} of the vector are one and the same: make one for each")
        if env.place is None or not env.place.given:
            env.place = Seat(index, len(envs), group)
            env.order.restart()
        elif env.place.count == len(envs) and env.place.index != index:
            raise ValueError(
                f"environment {index} of the vector was made with place={(env.place.index, env.place.count)}; put it "
                "there, or leave place out: this vector tells its environments their places"
            )


@dataclass(frozen=True)
class _Placed:
    """A function that makes an environment and tells it its place; it goes to the process of that environment."""

    make: Callable[[], gymnasium.Env[Any, Any]]
    index: int
    count: int

    def __call__(self) -> gymnasium.Env[Any, Any]:
        env = self.make()
        inner: Any = env.unwrapped
        if _order_of(env) is not None and not (inner.place and inner.place.given):
            inner.place = Seat(self.index, self.count)
            inner.order.restart()
        return env


def _order_of(env: Any) -> Order | None:
    order = getattr(getattr(env, "unwrapped", None), "order", None)
    return order if isinstance(order, Order) else None
