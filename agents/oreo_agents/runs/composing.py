"""A command's configuration, composed once: Hydra asks for it twice more after it has been checked.

Knows: what a configuration depends on. Does not know: commands, what may be wrong with settings.
"""

import copy
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.utils import JobRuntime
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

JOB_NAME = "cli"
"""What Hydra's main function takes from the name of our module; logs are called so."""


@contextmanager
def composed_once() -> Iterator[None]:
    """Have Hydra return copies of what it has composed of the same settings since this began."""
    compose = ConfigLoaderImpl.load_configuration
    kept: dict[Any, DictConfig] = {}

    def load(
        self: ConfigLoaderImpl,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        *how: Any,
        **named: Any,
    ) -> DictConfig:
        modes = [text for text in overrides if re.fullmatch("hydra.mode=(RUN|MULTIRUN)", text)]
        others = [text for text in overrides if text not in modes]  # Hydra adds the mode once it has looked it up
        place = (tuple(map(str, self.config_search_path.get_path())), os.getcwd(), JobRuntime().get("name"))
        exact, without = ((place, config_name, *_sorted(texts)) for texts in (overrides, others))
        if exact not in kept and without not in kept:
            found = compose(self, config_name, overrides, run_mode, *how, **named)
            if run_mode != RunMode.RUN:
                return found  # what is missing or swept was let pass
            kept[exact] = found
        config = copy.deepcopy(kept.get(exact, kept.get(without)))
        assert config is not None
        if exact not in kept:
            config.hydra.mode = RunMode[modes[-1].partition("=")[2]]
            config.hydra.overrides.hydra.extend(modes)
        return config

    ConfigLoaderImpl.load_configuration = load  # type: ignore[method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = compose  # type: ignore[method-assign]


@contextmanager
def quickly() -> Iterator[None]:
    """Spare Hydra a quarter of its work: a map of all choices for each file, also where none is looked up in it."""
    mapped = defaults_list._create_interpolation_map

    def where_read(overrides: Any, defaults: Sequence[Any], self_added: bool) -> DictConfig:
        read = any(not default.is_self() and default.is_interpolation() for default in defaults)
        return mapped(overrides, defaults, self_added) if read else OmegaConf.create()  # type: ignore[arg-type]

    defaults_list._create_interpolation_map = where_read  # type: ignore[assignment]
    try:
        yield
    finally:
        defaults_list._create_interpolation_map = mapped


def _sorted(overrides: Sequence[str]) -> list[str]:
    """Return Hydra's own settings, then the others: a job of a sweep has them in this order."""
    return sorted(overrides, key=lambda text: re.match(r"[+~]*hydra\b", text) is None)
