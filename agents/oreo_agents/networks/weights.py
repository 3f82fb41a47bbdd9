"""Weights of a checkpoint, read into the architecture that its configuration names: all of them, finite, or none.

Knows: transformers, adapters. Does not know: what networks are for.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PretrainedConfig
from transformers.utils import CONFIG_NAME
from transformers.utils import logging as transformers_logging

from oreo_agents.networks.adapters import adapted_path, merge_adapter
from oreo_agents.networks.places import first_line, hub_asked_once, require_no_remote_code


def load_model(
    auto_class: Any,
    path: str,
    *,
    dtype: torch.dtype,
    config: PretrainedConfig | None = None,
    new_head: bool = False,
    trust_remote_code: bool = False,
) -> Any:
    """Load the weights of a checkpoint into the architecture that its configuration names, all of them or none.

    Of a folder of peft, the weights that it adapts, with its adapters merged into them.

    Args:
        auto_class: of transformers.
        path: folder or hub name.
        dtype: of the weights.
        config: another one than the checkpoint's.
        new_head: the model has a head of one number a token that the checkpoint lacks, and leaves the other unused.
        trust_remote_code: run code that comes with the checkpoint.

    Raises:
        ValueError: no such architecture or class for it, files that are missing or cannot be read, weights that the
            architecture has and the checkpoint lacks or the other way round, or weights that are not finite.
    """
    base = adapted_path(path)
    if base is None:
        model = _load_whole(auto_class, path, dtype, config, new_head, trust_remote_code)
    else:
        if (
            config is None and (Path(path) / CONFIG_NAME).exists()
        ):  # of what was adapted, so no other model passes for it
            config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
        how: Any = {"config": config, "new_head": new_head, "trust_remote_code": trust_remote_code}
        merged: Any = merge_adapter(load_model(auto_class, base, dtype=torch.float32, **how), path)
        model = merged.to(dtype)
    broken = [name for name, weight in model.named_parameters() if not _is_finite(weight)]
    if broken:
        raise ValueError(f"{path}: weights that are not finite (NaN or infinite): {_several(broken)}; copy it again")
    return model


def _load_whole(
    auto_class: Any, path: str, dtype: torch.dtype, config: PretrainedConfig | None, new_head: bool, trust: bool
) -> Any:
    given: dict[str, Any] = {"trust_remote_code": trust} | ({} if config is None else {"config": config})
    try:
        with _without_load_report(), hub_asked_once(path):
            model, found = auto_class.from_pretrained(
                path, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, **given
            )
    except Exception as error:  # transformers lets through what any reader of files raises
        require_no_remote_code(path, error)
        raise ValueError(
            f"{path}: its weights cannot be loaded as a {auto_class.__name__.removeprefix('AutoModelFor')} model "
            f"({first_line(error)}); copy the whole folder again, or name another checkpoint"
        ) from error
    trunk = f"{model.base_model_prefix}."
    problems = {
        "missing there": found["missing_keys"],
        "there, and unknown to it": found["unexpected_keys"],
        "of another shape": [key for key, *_ in found["mismatched_keys"]],
    }
    problems = {what: [key for key in keys if not new_head or key.startswith(trunk)] for what, keys in problems.items()}
    told = "; ".join(f"{what}: {_several(keys)}" for what, keys in problems.items() if keys)
    if told:
        raise ValueError(
            f"{path}: the weights are not those of a {type(model).__name__}, which would run on random ones ({told}); "
            "give the folder of a whole checkpoint: `policy` for a policy, `value` for a value network"
        )
    return model


def _several(names: Sequence[str]) -> str:
    """Name some of many."""
    shown = ", ".join(sorted(names)[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


@torch.no_grad()
def _is_finite(weight: torch.Tensor) -> bool:
    """Say whether all numbers are finite; the extremes tell, without a copy."""
    if weight.numel() == 0 or not weight.is_floating_point():
        return True
    return bool(torch.isfinite(torch.stack(torch.aminmax(weight.detach()))).all())


@contextmanager
def _without_load_report() -> Iterator[None]:
    """Silence the report of missing and unused weights: what is wrong of it is an error."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
