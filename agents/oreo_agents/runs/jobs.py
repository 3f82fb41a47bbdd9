"""What each command of a run does with its configuration: run, sft, collect, train, eval.

Knows: which nodes of a configuration are for which stages, where Hydra says what was chosen. Does not know: how a
configuration is composed, how a stage works.
"""

import dataclasses
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from oreo_agents import plugins
from oreo_agents.runs import leftovers
from oreo_agents.runs.building import build, is_target, plain_value
from oreo_agents.runs.choices import known
from oreo_agents.runs.layout import STARTS
from oreo_agents.runs.run_folders import Network, choose_value, measured, run_of
from oreo_agents.runs.sweeps import beside_others, in_sweep, score
from oreo_envs.checks import closest

# What may be written for a longer key; `search` is also a group of files, which no command chooses from by itself.
SHORT = {"search": "evaluate.searches", "budget": "evaluate.budget", "tracker": "trainer.tracker"}

# What a run may do more of, or otherwise, in a folder that it worked in before: nothing that is there becomes wrong.
_GROWING = (
    "rounds",
    "iteration.rounds",
    "algos",
    "workers",
    "imports",
    "trainer.tracker",
    "trainer.sharding",
    "trainer.cpu_offload",
    "evaluate.keep",
    "evaluate.pairs.data",
    "sampler",
    "value.url",
)


def settings_from_config(config: DictConfig, algorithms: dict[str, Any]) -> Any:
    """Build ``RunSettings`` from a composed configuration.

    Raises:
        ValueError: a value is refused by the dataclass that it is for.
    """
    from oreo_agents.runs.settings import IterationSettings, RunSettings

    return RunSettings(
        env=build(config.env),
        policy=build(config.policy),
        value=build(config.value),
        sft=build(config.sft),
        collect=build(config.collect),
        algorithms={name: build(node) for name, node in algorithms.items()},
        iteration=build(config.iteration) if "iteration" in config else IterationSettings(),
        searches={name: build(node) for name, node in config.searches.items()},
        evaluate=build(config.evaluate),
        trainer=build(config.trainer),
        sampler=build(config.sampler),
        seed=plain_value(config, "seed", int),
        data=plain_value(config, "data", str | Sequence[str] | None),
        allow_held_out=config.allow_held_out,
        workers=plain_value(config, "workers", int | None),
        imports=plain_value(config, "imports", Sequence[str]),
    )


def settle_algorithms(command: str, config: DictConfig) -> None:
    """Give ``oreo train`` what an experiment for ``oreo run`` says of its algorithm, and take out what is not read.

    What the command line says of the algorithm stays, as it does in ``oreo run``.
    """
    if command == "run":
        return
    with open_dict(config):
        config.pop("algos", None)
        named = config.pop("algorithms", None) or {}
        if command != "train" or (name := HydraConfig.get().runtime.choices["algo"]) not in named:
            return
        given = OmegaConf.create({})
        for text in HydraConfig.get().overrides.task:
            if match := re.match(r"\+*algo\.([^=]+)=", text):
                OmegaConf.update(given, match[1], OmegaConf.select(config.algo, match[1]))
        config.algo = OmegaConf.merge(config.algo, named[name], given)


def settle_policy(config: DictConfig) -> None:
    """Take out the shape of a small model, of which experiments speak, where the policy is a checkpoint."""
    if config.policy.get("path") is not None and not is_target(config.policy.get("tiny")):
        with open_dict(config):
            config.policy.pop("tiny", None)


def _run(config: DictConfig, folder: Path) -> float | None:
    from oreo_agents.evaluation.report import report

    for name in plain_value(config, "algos", Sequence[str]):
        if name not in config.algorithms and name != "sft":
            names = dict.fromkeys([*config.algorithms, *known("algo")])
            raise ValueError(
                f"algos: unknown algorithm {name!r}{closest(name, names)}; known: {', '.join(names)}. A file "
                f"of algo joins them under another name by +algo@algorithms.NAME=FILE\nlooked in: {plugins.where()}"
            )
    chosen = {name: config.algorithms[name] for name in config.algos if name != "sft"}
    run = prepare(config, folder, chosen, supervised=True)
    _warn_without_recipe(run)
    rows = run.train_and_evaluate(["sft", *chosen])
    run.ranks.first(lambda: report([folder], folder, quiet=in_sweep()))
    return score(rows, folder)


def _train(config: DictConfig, folder: Path) -> float | None:
    from oreo_agents.evaluation.report import report

    name = HydraConfig.get().runtime.choices["algo"]
    # The start is no part of these results, so no value is tried on it.
    config.evaluate.start_value = None
    run = prepare(config, folder, {name: config.algo}, shared=STARTS)
    _warn_without_recipe(run)
    rows = run.train_and_evaluate([name])
    run.ranks.first(lambda: report([folder], folder, quiet=in_sweep()))
    return score(rows, folder)


def _warn_without_recipe(run: Any) -> None:
    from oreo_agents.runs.recipes import told_without_recipe

    hydra = HydraConfig.get()
    told = told_without_recipe(run.settings, hydra.runtime.choices, hydra.overrides.task)
    if told is not None and run.ranks.leads:
        logging.getLogger(__name__).warning(told)


def _sft(config: DictConfig, folder: Path) -> None:
    run = prepare(config, folder, {}, supervised=True)
    run.prepare(episodes=False)
    path = run.sft()
    if run.ranks.leads:
        print(f"policy: {path}")


def _collect(config: DictConfig, folder: Path) -> None:
    from oreo_agents.episodes.parts import Shard
    from oreo_agents.runs.data_tools import held

    shard = None if config.shard is None else Shard.parse(config.shard)
    config.shard = None  # shards may share a folder, and its configuration
    # The jobs of a sweep over shards begin with one start.
    run = prepare(config, folder, {}, shared=STARTS if shard and in_sweep() else None)
    if shard is None:
        run.prepare(episodes=True)
        print(held(folder / "data" / "episodes", run.episodes().stats()))
    else:
        run.data.require_shard(shard)
        run.prepare(episodes=False)
        buffer = run.data.shard(run.sft(), shard).buffer
        print(f"{held(buffer.folder, buffer.stats())}; oreo data merge joins all {shard.of}")


def _evaluate(config: DictConfig, folder: Path) -> None:
    for key, kind in (("what", str | None), ("run", str | None), ("label", str | None)):
        plain_value(config, key, kind)
    subjects = {"accuracy": _evaluate_accuracy, "value": _evaluate_value, "pairs": _evaluate_pairs}
    if config.what is None:
        config.what = "accuracy" if config.data is None and config.env.id != "oreo/Chat-v0" else "pairs"
    if config.what not in subjects:
        raise ValueError(f"what={config.what}: oreo eval measures {' or '.join(subjects)}")
    other = other_tasks(config)
    if other is not None:
        logging.getLogger(__name__).warning(other)
    subjects[config.what](config, folder)


def other_tasks(config: DictConfig) -> str | None:
    """Say in what the tasks to evaluate on differ from those of the run that trained what is measured.

    Returns:
        A sentence; None when they do not differ, when nothing is answered, or when no run folder tells.
    """
    from oreo_agents.evaluation.run_settings import read_config

    if config.get("run") is not None:
        trained = run_of(Path(config.run)) / "config.yaml"
    else:
        trained = Path(config.policy.path or "").parent.parent / "config.yaml"
        if config.policy.path is None or not trained.exists():
            return None
    if config.get("what") == "pairs":
        return None
    both = [read_config(trained).get("env") or {}, plain_value(config, "env", Mapping)]
    options = [each.get("options") or {} for each in both]
    pairs = {"id": [each.get("id") for each in both]}
    pairs |= {f"options.{name}": [each.get(name) for each in options] for name in sorted({*options[0], *options[1]})}
    differing = [
        f"env.{name}={'null' if new is None else new} (there {'null' if old is None else old})"
        for name, (old, new) in pairs.items()
        if old != new
    ]
    if not differing:
        return None
    return f"the policy was trained on other tasks, see {trained}: here {', '.join(differing)}"


def _evaluate_value(config: DictConfig, folder: Path) -> None:
    from oreo_agents.runs.value_eval import evaluate_value

    unread = [f"{short}=" for short in ("search", "budget") if _is_given(short)]
    if unread:
        raise ValueError(
            f"what=value measures V along samples and searches nothing: leave out {' and '.join(unread)}, or leave out "
            "what=value; value_eval.samples=N says how many samples a task"
        )
    if config.run is not None:
        choose_value(config, given=HydraConfig.get().overrides.task)
    settings = build(config.value_eval)
    evaluate_value(prepare(config, folder, {}), settings)


def _subjects(config: DictConfig) -> tuple[list[Network], Path]:
    """Return what to measure, and where the configuration of the run lies that trained it, if any did."""
    if config.run is not None:
        subjects = measured(config, HydraConfig.get().overrides.task)
        if config.label is not None and len(subjects) > 1:
            names = ", ".join(subject.name for subject in subjects)
            raise ValueError(f"label names one policy, and {config.run} holds several; give RUN/NAME, NAME of {names}")
        return subjects, run_of(Path(config.run)) / "config.yaml"
    if not config.policy.path:
        raise ValueError("oreo eval measures a checkpoint: give policy.path=FOLDER_OR_HUB_NAME, or a run folder")
    path = Path(config.policy.path)
    name = path.parent.name if path.name == "policy" else path.name
    return [Network(name, str(path), config.value.path)], path.parent.parent / "config.yaml"


def _evaluation(config: DictConfig, folder: Path, trained: Path) -> Any:
    """Prepare the folder of an evaluation, with the configuration of the run that trained what is measured."""
    from oreo_agents.evaluation.run_settings import TRAINED
    from oreo_algos.storage.atomic import write_text

    run = prepare(config, folder, {})
    if trained.exists():
        write_text(folder / TRAINED, trained.read_text(encoding="utf-8"))
    return run


def _evaluate_pairs(config: DictConfig, folder: Path) -> None:
    from oreo_agents.evaluation.report import report
    from oreo_agents.runs.pair_book import pairs_of_run, rank

    unread = [f"{short}=" for short in ("search", "budget") if _is_given(short)]
    if unread:
        raise ValueError(f"what=pairs ranks answers that are there and searches none: leave out {' and '.join(unread)}")
    subjects, trained = _subjects(config)
    pairs_of_run(config, trained)
    run = _evaluation(config, folder, trained)
    rows = [
        row
        for subject in subjects
        for row in rank(run, config.label or subject.name, subject, config.reference.path, trained)
    ]
    if not rows:
        raise ValueError(
            "nothing ranks these pairs: a policy does so by its log-ratios to what it was trained from, given as "
            "reference.path=CHECKPOINT, and V with value.path=FOLDER"
        )
    run.write_results(rows)
    report([folder], folder, quiet=in_sweep())


def _evaluate_accuracy(config: DictConfig, folder: Path) -> None:
    from oreo_agents.evaluation.report import report

    subjects, trained = _subjects(config)
    run = _evaluation(config, folder, trained)
    # Searches that were asked for are not left out in silence where there is no value for them.
    asked = list(config.evaluate.searches) if _is_given("search") else None
    rows = []
    for subject in subjects:
        searches = asked
        if asked is not None and subject.value is None and len(subjects) > 1:
            searches = [name for name in asked if not run.settings.searches[name].needs_value]
            if searches != asked:
                left = ", ".join(name for name in asked if name not in searches)
                logging.getLogger(__name__).warning("%s has no value network: without %s", subject.name, left)
        name = config.label or subject.name
        rows += run.evaluate(name, subject.policy, subject.value, searches=searches)
    if not rows:
        raise ValueError("nothing was evaluated: give value.path=FOLDER for the searches that read a value")
    run.write_results(rows)
    report([folder], folder, quiet=in_sweep())


def _is_given(short: str) -> bool:
    """Whether the command line sets what a short name stands for."""
    return any(text.startswith(f"{SHORT[short]}=") for text in HydraConfig.get().overrides.task)


JOBS: dict[str, Callable[[DictConfig, Path], float | None]] = {
    "run": _run,
    "sft": _sft,
    "collect": _collect,
    "train": _train,
    "eval": _evaluate,
}


def prepare(
    config: DictConfig,
    folder: Path,
    algorithms: dict[str, Any],
    *,
    shared: Path | None = None,
    supervised: bool = False,
) -> Any:
    """Check the configuration and write it down before anything expensive happens.

    Args:
        config: composed.
        folder: of the run.
        algorithms: nodes to train, by name.
        shared: see ``Run``.
        supervised: fine-tune a checkpoint that was given; otherwise it is taken as it is.
    """
    from oreo_agents.progress import quiet
    from oreo_agents.runs.given import require_there
    from oreo_agents.runs.pipeline import Run
    from oreo_agents.runs.trained_from import untrained
    from oreo_algos import ranks

    quiet()
    settings = settings_from_config(config, algorithms)
    if settings.policy.path is not None and not supervised:
        settings = dataclasses.replace(settings, sft=dataclasses.replace(settings.sft, demonstrations=0))
    if settings.workers is None and beside_others():
        settings = dataclasses.replace(settings, workers=1)
    for place in settings.data_folders:  # told before settings are compared, which hang on what is there
        require_there(place)
    ranks.current().first(lambda: write_down(config, folder))
    run = Run(settings, folder, shared=shared)
    if not settings.sft.demonstrations and (said := untrained(str(settings.policy.path))) and run.ranks.leads:
        logging.getLogger(__name__).warning(said)
    leftovers.watch(run.start_folder)
    return run


def write_down(config: DictConfig, folder: Path) -> None:
    """Write ``config.yaml``, or add to what a run does whose folder this is.

    Raises:
        ValueError: the folder holds a run with other settings, apart from those in ``_GROWING``, which has left more
            than its settings: one that was refused for its data, say, has done nothing that others could spoil.
    """
    from oreo_algos.storage.atomic import write_text

    path = folder / "config.yaml"
    text = OmegaConf.to_yaml(config, resolve=True)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".config.lock"):
        if path.exists():
            before = path.read_text(encoding="utf-8")
            if before == text:
                return
            lasting = [_lasting(OmegaConf.create(each)) for each in (before, text)]
            if lasting[0] != lasting[1] and not leftovers.nothing_done(folder):
                raise ValueError(
                    f"{folder} holds a run with another configuration (see {path}); choose another hydra.run.dir, or "
                    f"delete it to start again; only {', '.join(_GROWING)} may change"
                )
        write_text(path, text)


def lock_name(config: DictConfig) -> str:
    """Return the name of the lock on a run folder; shards of a collection may work in one at the same time."""
    shard = config.get("shard")
    return ".run.lock" if shard is None else f".run-{re.sub('[^0-9]', '-', str(shard))}.lock"


def _lasting(config: Any) -> Any:
    """Return the settings that may not change in a folder."""
    for key in _GROWING:
        OmegaConf.update(config, key, None)
    return config
