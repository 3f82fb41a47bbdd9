"""The configuration of a run below the algorithms: frozen dataclasses that check themselves.

Knows: names and defaults. Does not know: Hydra, files.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import gymnasium as gym

import oreo_envs  # noqa: F401 (registers the ids)
from oreo_agents.generate import Sampling
from oreo_agents.networks import Lora
from oreo_agents.search import Greedy, Search
from oreo_agents.tiny import TinyConfig
from oreo_algos.algos import Algorithm, Sft
from oreo_algos.algos.base import require_whole
from oreo_algos.trainer import TrainerConfig


@dataclass(frozen=True, kw_only=True)
class EnvSettings:
    """Which environment.

    Attributes:
        id: a registered Gymnasium id.
        path: where its data lies; None: where the environment looks by itself.
        options: further keyword arguments of ``gym.make``, other than ``split``.
        demonstrations: how many tasks other settings show by default; None: all of the train split.
        collection_tasks: how many they collect on by default; None: all of the train split.
        evaluation_tasks: how many of each split they evaluate on by default; None: all.
        evaluation_splits: those that they evaluate on by default.
        searches: those that they answer with by default.
        max_new_tokens: how long they let an answer, or a turn, of a small model be, tokens.
        context: how long they let a transcript of a small model be, tokens.
    """

    id: str
    path: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    demonstrations: int | None = None
    collection_tasks: int | None = None
    evaluation_tasks: int | None = None
    evaluation_splits: Sequence[str] = ("test",)
    searches: Sequence[str] = ("greedy",)
    max_new_tokens: int = 256
    context: int = 512

    def __post_init__(self) -> None:
        """Check that the environment is registered."""
        if self.id not in gym.registry:
            close = difflib.get_close_matches(self.id, gym.registry, n=1)
            raise ValueError(f"env.id={self.id}: no such environment{f'; did you mean {close[0]!r}?' if close else ''}")

    def keywords(self) -> dict[str, Any]:
        """Return the keyword arguments of ``gym.make`` other than the split."""
        return dict(self.options) | ({} if self.path is None else {"path": self.path})


@dataclass(frozen=True, kw_only=True)
class PolicySettings:
    """Where the policy comes from.

    Attributes:
        path: folder or hub name of a checkpoint; None: a small model from random weights.
        tiny: shape of that model.
        lora: adapters in place of full fine-tuning.
        device: ``auto``: the GPU when there is one.
        dtype: of the weights; on a GPU, float32 weights are computed with in bfloat16.
        gradient_checkpointing: compute layers again in the backward: less memory, about a third more time.
    """

    path: str | None = None
    tiny: TinyConfig = TinyConfig()
    lora: Lora = Lora()
    device: str = "auto"
    dtype: str = "float32"
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"policy.dtype must be float32 or bfloat16, got {self.dtype!r}")
        _require_bool("policy.gradient_checkpointing", self.gradient_checkpointing)


@dataclass(frozen=True, kw_only=True)
class ValueSettings:
    """How the value network starts.

    Attributes:
        path: folder of a trained value network; None: the policy's weights with a head that says 0.
        bias_at_mean_reward: give the head a trained bias that starts at the buffer's mean reward.
        lora: adapters in place of full fine-tuning.
        gradient_checkpointing: compute layers again in the backward: less memory, about a third more time.
    """

    path: str | None = None
    bias_at_mean_reward: bool = False
    lora: Lora = Lora()
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        _require_bool("value.gradient_checkpointing", self.gradient_checkpointing)


def _require_bool(name: str, value: object) -> None:
    """Refuse a text such as "no", which would count as true."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class SftSettings:
    """Supervised start.

    Attributes:
        split: of the environment, whose tasks are demonstrated.
        demonstrations: tasks of it to learn from, at most; None: all of them; 0: no fine-tuning.
        samples: demonstrations of each, which differ where the environment draws what its solver does: with one epoch
            over them, what is drawn is fresh each time that a task is seen.
        algorithm: how to learn.
    """

    split: str = "train"
    demonstrations: int | None = None
    samples: int = 1
    algorithm: Sft = Sft()

    def __post_init__(self) -> None:
        """Check the settings."""
        require_whole(self, "samples")
        if self.samples < 1:
            raise ValueError(f"sft.samples must be at least 1, got {self.samples}")


@dataclass(frozen=True, kw_only=True)
class CollectSettings:
    """Offline episodes.

    Attributes:
        source: ``policy``: samples of the start policy; ``demonstrations``: the environment's, of its own solver.
        split: of the environment, whose tasks are collected on.
        tasks: tasks of it, at most; None: all of them.
        demonstrated: prefer the tasks that the supervised start was shown, which a small model may solve by heart.
        samples: episodes a task.
        keep_per_outcome: keep at most so many right and so many wrong episodes a task; None: all.
        sampling: how tokens are drawn.
    """

    source: Literal["policy", "demonstrations"] = "policy"
    split: str = "train"
    tasks: int | None = None
    demonstrated: bool = False
    samples: int = 10
    keep_per_outcome: int | None = None
    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.source not in ("policy", "demonstrations"):
            raise ValueError(f"collect.source must be policy or demonstrations, got {self.source!r}")
        if self.samples < 1 or (self.tasks is not None and self.tasks < 1):
            raise ValueError(
                f"collect.samples and collect.tasks must be at least 1, got {self.samples} and {self.tasks}"
            )


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
class EvaluateSettings:
    """What to measure.

    Attributes:
        splits: the authors' names of the held-out splits.
        tasks: at most so many of each, the same ones whatever the seed; None: all of them.
        searches: names among the run's searches.
        value_searches: further ones, for policies that come with a learned value; those that read none are there to be
            compared with.
        budget: generated tokens a task, on average; every search is evaluated in the size that each of them allows,
            see ``budget``. None given: in the size of its own settings.
        start_value: the algorithm whose value also serves the searches of the start policy; None: no value does.
        sampling: limits; each search brings its own temperature.
    """

    splits: Sequence[str] = ("test",)
    tasks: int | None = None
    searches: Sequence[str] = ("greedy",)
    value_searches: Sequence[str] = ()
    budget: Sequence[int] = ()
    start_value: str | None = None
    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        """Check the settings."""
        if isinstance(self.splits, str) or not self.splits:
            raise ValueError(f"evaluate.splits must be a list of at least one split, got {self.splits!r}")
        if isinstance(self.searches, str) or not self.searches:
            raise ValueError(
                "evaluate.searches must be a list of at least one search, such as search=[greedy,step_beam], got "
                f"{self.searches!r}"
            )
        if isinstance(self.value_searches, str):
            raise ValueError(f"evaluate.value_searches must be a list of searches, got {self.value_searches!r}")
        if not isinstance(self.budget, Sequence) or any(not isinstance(b, int) or b < 1 for b in self.budget):
            raise ValueError(
                f"evaluate.budget must be a list of tokens a task, such as budget=[100,200], got {self.budget!r}"
            )
        if self.tasks is not None and self.tasks < 1:
            raise ValueError(f"evaluate.tasks must be at least 1, or null for all, got {self.tasks}")

    @property
    def with_value(self) -> list[str]:
        """Names of all searches of a policy that comes with a learned value, each once."""
        return list(dict.fromkeys([*self.searches, *self.value_searches]))


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
        seed: of everything random.
        data: folder of a buffer to train on, or several, whose episodes are joined; None: collect one.
        workers: processes that train and evaluate side by side; None: one a core for small models on a CPU, else 1.
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
    seed: int = 0
    data: str | Sequence[str] | None = None
    workers: int | None = None

    @property
    def data_folders(self) -> list[str]:
        """Folders of the buffers to train on; none: collect one."""
        return [self.data] if isinstance(self.data, str) else list(self.data or ())

    def __post_init__(self) -> None:
        """Check that what is named is there."""
        asked = {"searches": self.evaluate.searches, "value_searches": self.evaluate.value_searches}
        for setting, names in asked.items():
            for name in names:
                if name not in self.searches:
                    close = difflib.get_close_matches(name, self.searches, n=1)
                    hint = f"; did you mean {close[0]!r}?" if close else ""
                    raise ValueError(
                        f"evaluate.{setting}: unknown search {name!r}{hint} (known: {', '.join(self.searches)})"
                    )
