"""How good a value network is on fresh samples of a policy: ``oreo eval what=value``.

Knows: what is drawn, read and written. Does not know: Hydra, equations, HTML.

A run folder holds ``samples/`` (a buffer, used again by the same command on the same weights), ``value.json`` (every
figure, with its interval or the reason why it is not defined), ``report.md``, ``plots/`` and ``value.html`` (steps in
colour).
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oreo_agents.episodes.collect import CollectSettings, collect
from oreo_agents.episodes.tasks import choose_indices
from oreo_agents.networks.checkpoints import weights_digest
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.runs.pipeline import Run
from oreo_agents.value_quality.figures import Reading, measure
from oreo_agents.value_quality.path import read_paths
from oreo_agents.value_quality.report import write_report
from oreo_algos import Episode, EpisodeBuffer
from oreo_algos.typed import require_finite, require_types


@dataclass(frozen=True, kw_only=True)
class ValueEvalSettings:
    """What to measure a value on.

    Attributes:
        split: of the environment.
        tasks: at most so many, the same ones whatever the seed; None: all.
        samples: episodes a task.
        temperature: of the sampling, > 0.
        beta: KL temperature that the value was trained with, reward units per nat; read only with a reference.
        reference_path: checkpoint of the reference policy; None: log-ratios count as 0.
    """

    split: str = "test"
    tasks: int | None = 200
    samples: int = 8
    temperature: float = 1.0
    beta: float = 0.03
    reference_path: str | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        require_types(self)
        require_finite(self)
        if self.samples < 2 or (self.tasks is not None and self.tasks < 1):
            raise ValueError(
                "value_eval: two samples a task and one task are the least that can be ordered, got "
                f"samples={self.samples} and tasks={self.tasks}"
            )
        if self.temperature <= 0 or self.beta <= 0:
            raise ValueError(
                f"value_eval: temperature and beta must be > 0, got {self.temperature} and {self.beta}: "
                "greedy samples of one task are all alike"
            )


def evaluate_value(run: Run, settings: ValueEvalSettings) -> dict[str, Any]:
    """Measure ``run.settings.value.path`` on samples of ``run.settings.policy.path``; write and print the results.

    Returns:
        What ``value.json`` holds.

    Raises:
        ValueError: no policy or value is given, one of the networks reads other tokens than the policy, no sample
            could begin, or the samples in the folder are of another policy or other settings.
    """
    policy_path, value_path = run.settings.policy.path, run.settings.value.path
    if policy_path is None or value_path is None:
        missing = "policy.path=FOLDER_OR_HUB_NAME" if policy_path is None else "value.path=FOLDER"
        raise ValueError(
            f"eval what=value measures a value network on samples of a policy: give {missing}, such as the folders "
            "`policy` and `value` of an OREO run"
        )
    value = run.load.value(value_path, policy_path)
    if settings.reference_path is not None:
        run.load.require_same_tokens("reference.path", settings.reference_path, policy_path)
    policy = run.load.policy(policy_path)
    reference = None if settings.reference_path is None else run.load.policy(settings.reference_path)
    samples = _samples(run, settings, policy_path, policy)
    batch_size = run.settings.evaluate.sampling.batch_size
    paths = read_paths(value, samples, batch_size, policy=policy, reference=reference)
    rights = _rightness(run, settings.split, samples)
    readings = [Reading(*one) for one in zip(samples, paths, rights, strict=True)]
    figures = measure(readings, beta=settings.beta, implicit=reference is not None)
    facts: dict[str, Any] = {
        "policy": policy_path,
        "value": value_path,
        "reference": settings.reference_path,
        "env": run.settings.env.id,
        "env_options": dict(run.settings.env.options),
        "seed": run.settings.seed,
        **{name: getattr(settings, name) for name in ("split", "samples", "temperature", "beta")},
        **samples.stats(),
    }
    return write_report(run.folder, facts, figures, readings)


def _samples(run: Run, settings: ValueEvalSettings, policy_path: str, policy: CausalPolicy) -> EpisodeBuffer:
    """Return the samples in the folder, drawn first where there are none.

    Raises:
        ValueError: they were drawn otherwise.
    """
    prompt_format = run.load.prompt_format(policy_path)
    folder = run.folder / "samples"
    sampling = dataclasses.replace(run.settings.evaluate.sampling, temperature=settings.temperature)
    # What decides the samples; where the weights lie does not.
    drawn_with: dict[str, Any] = {
        "weights": weights_digest(policy_path),
        "env": run.settings.env.id,
        "env_options": json.loads(json.dumps(run.settings.env.keywords())),
        "seed": run.settings.seed,
        "max_new_tokens": sampling.max_new_tokens,
        **{name: getattr(settings, name) for name in ("split", "tasks", "samples", "temperature")},
    }
    if not (folder / "metadata.json").exists():
        make_env = run.make_env(settings.split)
        with make_env() as env:
            indices = choose_indices(env, settings.tasks, None)
        collect(
            make_env,
            policy,
            prompt_format,
            indices,
            CollectSettings(samples=settings.samples, sampling=sampling),
            seed=run.settings.seed,
            selection_seed=run.settings.seed,
            provenance={"policy": policy_path, **drawn_with},
            sampler=run.load.sampler(policy, policy_path),
        ).save(folder)
    samples = EpisodeBuffer.load(folder, tokenizer_fingerprint=prompt_format.fingerprint)
    found = samples.provenance
    different = [
        f"{name} {found.get(name)} and not {asked}" for name, asked in drawn_with.items() if found.get(name) != asked
    ]
    if different:
        raise ValueError(
            f"{folder}: these samples were drawn with {'; '.join(different)}; choose another run folder, or delete "
            "this one to draw them again"
        )
    return samples


def _rightness(run: Run, split: str, episodes: Sequence[Episode]) -> list[np.ndarray | None]:
    """Ask the environment which steps are right."""
    found = []
    with run.make_env(split)() as env:
        judge: Any = env.unwrapped
        for episode in episodes:
            assert episode.action_spans is not None
            steps = [episode.messages[message]["content"][start:end] for message, start, end in episode.action_spans]
            right = judge.step_rightness(episode.task_id, steps)
            found.append(None if right is None else np.array(right))
    return found
