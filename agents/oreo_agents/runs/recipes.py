"""Algorithms that train a small model with settings for checkpoints, said before a run begins.

Knows: which recipes were chosen, how many weights a folder holds. Does not know: how recipes are applied (``choices``).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from oreo_agents.runs.choices import known, settings_of
from oreo_agents.runs.settings import RunSettings

SMALL = 10_000_000
"""Parameters below which a policy learns at the rates of small models."""

_LEAST = 1e-4  # the lowest of the rates in the recipes for small models


def told_without_recipe(settings: RunSettings, choices: Mapping[str, str], overrides: Sequence[str]) -> str | None:
    """Say which algorithms train a small policy at the rates of checkpoints, and how to set them.

    Args:
        settings: of the run.
        choices: what was chosen of each group of settings, as Hydra tells.
        overrides: of the command line; a learning rate that stands there is meant.

    Returns:
        A sentence; None where there is nothing to say.
    """
    path = settings.policy.path
    size = None if path is None else parameters_at(Path(path))
    if path is not None and (size is None or size >= SMALL):
        return None
    found = list(_without(settings, choices, overrides))
    if not found:
        return None
    policy = "the policy begins with random weights" if size is None else f"policy.path={path} has {size:,} parameters"
    return (
        f"{policy}, and no recipe for small models is used for {', '.join(name for name, _, _ in found)}: trained as "
        f"checkpoints are ({'; '.join(used for _, used, _ in found)}), it will hardly move. "
        f"{'; '.join(dict.fromkeys(how for _, _, how in found))}"
    )


def _without(
    settings: RunSettings, choices: Mapping[str, str], overrides: Sequence[str]
) -> Iterator[tuple[str, str, str]]:
    """Yield the name of each such algorithm, the settings that it trains with, and how to set them."""
    for name, algorithm in settings.algorithms.items():
        key = "algo" if "algo" in choices else f"algorithms.{name}"
        group = f"recipe@{key}"
        given = any(text.lstrip("+").startswith(f"{key}.policy_lr=") for text in overrides)
        if given or algorithm.policy_lr >= _LEAST or "policy_lr" in settings_of("recipe", str(choices.get(group))):
            continue
        recipe = f"tiny-{choices.get('algo' if key == 'algo' else f'algo@{key}', name)}"
        if recipe in known("recipe"):
            how = f"Give {'' if group in choices else '+'}{group}={recipe}"
        else:
            how = f"Give {key}.policy_lr=5e-4 {key}.batch_size=32 {key}.epochs=2, say, or write these into "
            how += f"recipe/{recipe}.yaml of a folder that --config-dir names"
            if settings.policy.path is not None:
                how += f" and give {'' if group in choices else '+'}{group}={recipe}"
        used = f"policy_lr={algorithm.policy_lr:g} batch_size={algorithm.batch_size} epochs={algorithm.epochs}"
        yield name, used if len(settings.algorithms) == 1 else f"{name} {used}", how


def parameters_at(folder: Path) -> int | None:
    """Count the weights of a checkpoint, from the heads of its files; None: no folder of whole safetensors."""
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob("*.safetensors"))
    if not files or (folder / "adapter_config.json").exists():
        return None
    count = 0
    try:
        for file in files:
            with safe_open(file, "numpy") as weights:
                count += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    except (SafetensorError, OSError):
        return None  # told where it is loaded
    return count
