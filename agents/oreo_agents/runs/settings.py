"""The configuration of a whole run below the algorithms: frozen dataclasses that check themselves.

Knows: names and defaults, and which tasks a run may train and evaluate on. Does not know: Hydra, stages.
What configures one room stands in that room.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from os.path import expanduser
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym

from oreo_agents import plugins
from oreo_agents.engines.settings import SamplerSettings
from oreo_agents.episodes.collect import CollectSettings, SftSettings
from oreo_agents.episodes.tasks import EnvSettings, choose_indices, derive, make_env
from oreo_agents.evaluation.evaluate import EvaluateSettings
from oreo_agents.networks.policy import PolicySettings
from oreo_agents.networks.value import ValueSettings
from oreo_agents.search import Greedy, Search
from oreo_algos.algos import Algorithm
from oreo_algos.algos.base import require_whole
from oreo_algos.training.trainer import TrainerConfig
from oreo_algos.typed import require_types
from oreo_envs.archives import is_archive
from oreo_envs.checks import closest


@dataclass(frozen=True, kw_only=True)
class IterationSettings:
    """Training in rounds: collect with the policy of the round before, train it on.

    Attributes:
        rounds: how many; 1: the offline episodes of the start alone.
        keep_data: a round learns from the episodes of all rounds so far; False: from its own only.
        reference: to which policy log-ratios and KL are taken: that of the ``previous`` round, or of the ``start``.
        value: ``carried``: training goes on with the value network of the round before; ``fresh``: with a new one.
    """

    rounds: int = 1
    keep_data: bool = True
    reference: Literal["previous", "start"] = "previous"
    value: Literal["carried", "fresh"] = "carried"

    def __post_init__(self) -> None:
        """Check the settings."""
        require_types(self)
        require_whole(self, "rounds")
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, got {self.rounds}")
        if not isinstance(self.keep_data, bool):
            raise ValueError(f"iteration.keep_data must be true or false, got {self.keep_data!r}")
        if self.reference not in ("previous", "start"):
            raise ValueError(f"iteration.reference must be previous or start, got {self.reference!r}")
        if self.value not in ("carried", "fresh"):
            raise ValueError(f"iteration.value must be carried or fresh, got {self.value!r}")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Everything a run needs, whatever made it: YAML, a command line or Python.

    Attributes:
        env: environment.
        policy: start of the policy.
        value: start of the value network.
        sft: supervised start.
        collect: offline episodes.
        algorithms: what to train from the same start and episodes, by name.
        iteration: in how many rounds, and what each takes over from the one before.
        searches: how to answer at test time, by name.
        evaluate: what to measure.
        trainer: how to train.
        sampler: who generates.
        seed: of everything random.
        data: folder of a buffer to train on, or several, whose episodes are joined; None: collect one.
        allow_held_out: learn also from episodes of ``data`` that are of held-out tasks.
        workers: processes that train and evaluate side by side; None: one a core for small models on a CPU, else 1.
        imports: modules that each process imports first, see ``plugins.import_named``.
    """

    env: EnvSettings
    policy: PolicySettings = PolicySettings()
    value: ValueSettings = ValueSettings()
    sft: SftSettings = SftSettings()
    collect: CollectSettings = CollectSettings()
    algorithms: Mapping[str, Algorithm[Any]] = field(default_factory=dict)
    iteration: IterationSettings = IterationSettings()
    searches: Mapping[str, Search] = field(default_factory=lambda: {"greedy": Greedy()})
    evaluate: EvaluateSettings = EvaluateSettings()
    trainer: TrainerConfig = TrainerConfig()
    sampler: SamplerSettings = SamplerSettings()
    seed: int = 0
    data: str | Sequence[str] | None = None
    allow_held_out: bool = False
    workers: int | None = None
    imports: Sequence[str] = ()

    @property
    def data_folders(self) -> list[str]:
        """Folders of the buffers to train on; none: collect one."""
        return list(map(expanduser, [self.data] if isinstance(self.data, str) else self.data or ()))

    def __post_init__(self) -> None:
        """Check that what is named is there, and that one server is asked for one policy at a time."""
        require_types(self)
        if self.seed < 0 or (self.workers is not None and self.workers < 1):
            name, least = ("seed", 0) if self.seed < 0 else ("workers", 1)
            raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.data is not None and not (self.data and all(self.data_folders)):
            raise ValueError(f"data must name a folder or rows, or a list of such, or be null, got {self.data!r}")
        served = "value.url" if self.value.url is not None else "sampler=vllm"
        if (self.sampler.engine != "local" or self.value.url is not None) and (self.workers or 1) > 1:
            raise ValueError(
                f"workers={self.workers}: with {served} one server has one policy at a time; leave out workers"
            )
        asked = {"searches": self.evaluate.searches, "value_searches": self.evaluate.value_searches}
        for setting, names in asked.items():
            for name in names:
                if name not in self.searches:
                    hint = f"{closest(name, self.searches)} (known: {', '.join(self.searches)})"
                    raise ValueError(f"evaluate.{setting}: unknown search {name!r}{hint}\nlooked in: {plugins.where()}")

    def env_maker(self, split: str) -> Callable[[], gym.Env[str, str]]:
        """Return a function that makes an environment of a split.

        Raises:
            ValueError: ``env.path`` names a file of tasks, which would serve as every split, and this one is not
                evaluated.
        """
        for path in map(Path, self.env.paths if split not in self.evaluate.splits else ()):
            if (path / "state.json").is_file() or (path.is_file() and not is_archive(path)):
                raise ValueError(
                    f"env.path={path} is one file or one saved data set, so training and evaluation would see the same "
                    "tasks; give the folder that holds one for each split"
                )
        return partial(make_env, self.env, split)

    def train_indices(self, count: int | None, *purpose: int, split: str = "train") -> list[int]:
        """Choose tasks of a split to train on, at most ``count``, for a purpose; see ``tasks.choose_indices``.

        Raises:
            ValueError: a split that is held out.
        """
        env = self.env_maker(split)()
        if split in getattr(env.unwrapped, "held_out_splits", ()):
            raise ValueError(f"split {split!r} is held out: nothing may learn from it; use split='train'")
        return choose_indices(env, count, derive(self.seed, *purpose))
