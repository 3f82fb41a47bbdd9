"""How good a value network is on fresh samples of a policy: ``oreo eval what=value``.

Knows: what is drawn, read and written. Does not know: Hydra, equations, HTML.

A run folder holds ``samples/`` (a buffer, used again by the same command on the same weights), ``value.json`` (every
figure, with its interval or the reason why it is not defined), ``report.md``, ``plots/`` and ``value.html`` (steps in
colour).
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from oreo_agents.collect import collect
from oreo_agents.loading import require_same_tokens
from oreo_agents.pipeline import Run
from oreo_agents.policy import CausalPolicy
from oreo_agents.prompts import PromptFormat
from oreo_agents.report import markdown
from oreo_agents.settings import CollectSettings
from oreo_agents.tasks import choose_indices
from oreo_agents.value_figures import PLACES, Figure, Reading, measure
from oreo_agents.value_page import value_page
from oreo_agents.value_path import read_paths
from oreo_agents.value_plots import draw_plots
from oreo_algos import Episode, EpisodeBuffer
from oreo_algos.atomic import replace_folder, write_text

# Columns of the table by place: heading, and first part of the names of their figures.
_COLUMNS = {
    "AUC": "auc",
    "within-question ordering": "ordering",
    "ECE": "ece",
    "Brier": "brier",
    "explained variance": "explained_variance",
}
_OTHERS = {
    "bellman/one_step": "Bellman residual, one step, mean absolute",
    "bellman/path": "Bellman residual, to the end, mean absolute",
    "steps/explicit_auc": "right and wrong steps told apart by V after - V before (AUC)",
    "steps/explicit_auc_within_episodes": "the same, within episodes",
    "steps/implicit_auc": "right and wrong steps told apart by beta l (AUC)",
    "steps/implicit_auc_within_episodes": "the same, within episodes",
    "localisation/explicit": "first wrong step has the lowest V after - V before (share)",
    "localisation/implicit": "first wrong step has the lowest beta l (share)",
    "localisation/chance": "the same for a step chosen at random",
}


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
        require_same_tokens("reference.path", settings.reference_path, policy_path)
    policy = run.load.policy(policy_path)
    reference = None if settings.reference_path is None else run.load.policy(settings.reference_path)
    samples = _samples(run, settings, policy_path, policy)
    batch_size = run.settings.evaluate.sampling.batch_size
    paths = read_paths(value, samples, batch_size, policy=policy, reference=reference)
    rights = _rightness(run, settings.split, samples)
    readings = [Reading(*one) for one in zip(samples, paths, rights, strict=True)]
    figures = measure(readings, beta=settings.beta, implicit=reference is not None)
    document: dict[str, Any] = {
        "policy": policy_path,
        "value": value_path,
        "reference": settings.reference_path,
        "env": run.settings.env.id,
        "env_options": dict(run.settings.env.options),
        "seed": run.settings.seed,
        **{name: getattr(settings, name) for name in ("split", "samples", "temperature", "beta")},
        **samples.stats(),
        "notes": _notes(readings, settings, figures),
        "figures": {name: _plain(figure) for name, figure in figures.items()},
    }
    _write(run.folder, document, figures, readings)
    return document


def tables(figures: Mapping[str, Figure]) -> list[Table]:
    """Return the figures as two tables: those of states by place, and the others."""
    by_place = Table(title="V by share of the steps done, 95% intervals over questions")
    by_place.add_column("place")
    for heading in _COLUMNS:
        by_place.add_column(heading, justify="right")
    for place in PLACES:
        by_place.add_row(place, *(_number(figures[f"{name}/{place}"]) for name in _COLUMNS.values()))
    others = Table(title="Bellman equation and steps")
    others.add_column("figure")
    others.add_column("value", justify="right")
    for name, heading in _OTHERS.items():
        if name in figures:
            others.add_row(heading, _number(figures[name]))
    return [by_place, others]


def _samples(run: Run, settings: ValueEvalSettings, policy_path: str, policy: CausalPolicy) -> EpisodeBuffer:
    """Return the samples in the folder, drawn first where there are none.

    Raises:
        ValueError: they were drawn otherwise.
    """
    prompt_format = PromptFormat.from_pretrained(policy_path)
    folder = run.folder / "samples"
    sampling = dataclasses.replace(run.settings.evaluate.sampling, temperature=settings.temperature)
    # What decides the samples; where the weights lie does not.
    drawn_with: dict[str, Any] = {
        "weights": _weights(policy_path),
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


def _weights(policy_path: str) -> str:
    """Tell the weights of a checkpoint: by their bytes in a folder, by the name of one on the hub."""
    if not Path(policy_path).is_dir():
        return policy_path
    digest = hashlib.sha256()
    for path in sorted(Path(policy_path).iterdir()):
        if path.suffix in (".safetensors", ".bin"):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


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


def _notes(readings: Sequence[Reading], settings: ValueEvalSettings, figures: Mapping[str, Figure]) -> list[str]:
    """Say what a reader must know to read the figures right."""
    notes = []
    outcomes = {reading.episode.success for reading in readings}
    if len(outcomes) < 2:
        notes.append(
            f"all {len(readings)} samples are {'right' if outcomes == {True} else 'wrong'}, so V has nothing to tell "
            "apart: take harder or easier tasks, another policy, or more samples"
        )
    for reason in dict.fromkeys(figure.reason for figure in figures.values() if figure.reason):
        names = [name for name, figure in figures.items() if figure.reason == reason]
        notes.append(f"undefined, for {reason}: {', '.join(names)}")
    if settings.reference_path is None:
        notes.append("no reference.path: log-ratios count as 0 in targets and residuals, and no implicit advantages")
    if all(reading.right is None for reading in readings):
        notes.append("this environment cannot tell which steps are right: no figures of steps")
    cut_off = sum(reading.episode.truncated for reading in readings)
    if cut_off:
        notes.append(f"{cut_off} samples were cut off by a limit: V at their end is read before their last token")
    return notes


def _write(
    folder: Path, document: Mapping[str, Any], figures: Mapping[str, Figure], readings: Sequence[Reading]
) -> None:
    """Write everything, ``value.json`` last, and print the tables."""
    facts = {name: str(document[name]) for name in ("policy", "value", "reference", "env", "split", "temperature")}
    facts["samples"] = (
        f"{document['episodes']} of {document['tasks']} questions, {100 * document['success_rate']:.1f}% right, "
        f"{document['mixed_tasks']} questions with both outcomes"
    )
    with replace_folder(folder / "plots") as temporary:
        plots = [path.name for path in draw_plots(readings, figures, temporary)]
    beta = None if document["reference"] is None else document["beta"]
    write_text(folder / "value.html", value_page(readings, facts=facts, beta=beta))
    console = Console(width=max(Console().width, 120))
    console.print(f"samples: {facts['samples']}")
    text = ["# How good the value is\n", "".join(f"- {name}: {what}\n" for name, what in facts.items())]
    for table in tables(figures):
        console.print(table)
        text.append(markdown(table))
    for note in document["notes"]:
        console.print(f"note: {note}")
        text.append(f"Note: {note}\n")
    text += [f"![{name}](plots/{name})\n" for name in plots]
    text += ["Episodes, each step coloured by its advantage: [value.html](value.html)\n"]
    write_text(folder / "report.md", "\n".join(text))
    write_text(folder / "value.json", json.dumps(document, indent=2, allow_nan=False) + "\n")
    console.print(f"report: {folder / 'report.md'}, steps in colour: {folder / 'value.html'}")


def _plain(figure: Figure) -> dict[str, Any]:
    """Return a figure as JSON: always a value, of the rest only what there is."""
    found = dataclasses.asdict(figure)
    return {name: found[name] for name in found if name == "value" or found[name] is not None}


def _number(figure: Figure) -> str:
    if figure.value is None:
        return "undefined"
    interval = "" if figure.low is None else f" [{figure.low:.3f}, {figure.high:.3f}]"
    return f"{figure.value:.3f}{interval}"
