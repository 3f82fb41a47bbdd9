"""What every function of the facade takes: an environment or its name, settings by their names.

Knows: which names there are, what may be learned from. Does not know: networks, episodes.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import gymnasium as gym

import oreo_envs
from oreo_agents.episodes.tasks import find_env
from oreo_agents.runs.names_elsewhere import here_in_python
from oreo_envs.checks import closest, positive, whole

Env = gym.Env[str, str]


def make(env: str, **options: Any) -> Env:
    """Make an environment.

    Args:
        env: an id such as ``oreo/GSM8K-v0``, or its short name, ``gsm8k``.
        options: ``split``, ``path`` and what else it takes.

    Raises:
        ValueError: there is none of that name, or it refuses an option.
    """
    if not isinstance(env, str):
        raise ValueError(f"make takes the id of an environment, such as 'gsm8k', got {env!r:.80}")
    env_id = find_env(env, "make: ")
    try:
        return oreo_envs.make(env_id, **options)
    except TypeError as error:
        raise ValueError(f"{env_id}: {error}") from None


def env_of(env: Env | str) -> Env:
    """Return an environment, made where it is a name.

    Raises:
        ValueError: it is none, or cannot be made.
    """
    made = make(env) if isinstance(env, str) else env
    if not isinstance(made, gym.Env):
        raise ValueError(f"env is an environment of make(...), or its name, got {made!r:.80}")
    return made


def id_of(env: Env) -> str:
    """Return the id that it was made by; "": none."""
    return "" if env.spec is None else env.spec.id


def learnable(env: Env) -> Env:
    """Return the environment, unless its split is held out.

    Raises:
        ValueError: it is.
    """
    unwrapped: Any = env.unwrapped
    if unwrapped.split in unwrapped.held_out_splits:
        raise ValueError(
            f"split {unwrapped.split!r} is held out: nothing may learn from it; make it with split='train'"
        )
    return env


def counted(*, seed: int, tasks: int | None = None, samples: int = 1) -> None:
    """Refuse numbers that nothing can be drawn by.

    Raises:
        ValueError: one of them.
    """
    if whole("seed", seed) < 0:
        raise ValueError(f"seed must be an integer >= 0, got {seed}")
    if tasks is not None:
        positive("tasks", tasks)
    positive("samples", samples)


def replaced(settings: Any, changes: Mapping[str, Any]) -> Any:
    """Return settings with some changed; a name that they do not have is refused."""
    if isinstance(settings, type) or not hasattr(settings, "__dataclass_fields__"):
        raise ValueError(f"expected a name, or an object with settings, got {settings!r:.80}")
    known = [field.name for field in dataclasses.fields(settings)]
    for name in changes:
        if name not in known:
            elsewhere = here_in_python(name)
            hint = f"; here it is {elsewhere}" if elsewhere else closest(name, known)
            raise ValueError(f"{type(settings).__name__} has no setting {name!r}{hint}")
    try:
        return dataclasses.replace(settings, **changes) if changes else settings
    except TypeError as error:  # a value of another kind, which the class compares with a number
        raise ValueError(f"{type(settings).__name__}: {error}, got {dict(changes)}") from None
