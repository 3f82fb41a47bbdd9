"""The command ``oreo``: with ``overrides`` the only place that has heard of Hydra.

Knows: which command composes which configuration and calls which stage. Does not know: how a stage works.
"""

import dataclasses
import logging
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import hydra
from filelock import FileLock, Timeout
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from oreo_agents import plugins
from oreo_agents.runs import together
from oreo_agents.runs.arguments import flags_first, modules_of_env, one_search_a_job, plugged_in, with_environment
from oreo_agents.runs.building import build, plain_value
from oreo_agents.runs.choices import config_folder, known, with_folders
from oreo_agents.runs.helps import asked, asked_of_parser
from oreo_agents.runs.overrides import UserError, check_overrides, closest, further_overrides, readable
from oreo_agents.runs.run_folders import (
    Network,
    choose_value,
    evaluation_overrides,
    hydra_text,
    networks,
    run_of,
)
from oreo_agents.runs.sweeps import beside_others, conclude, in_sweep, run_job, score

USAGE = """\
oreo: offline reinforcement learning of multi-step reasoning

  oreo run      supervised start, collection, every algorithm, evaluation, report
  oreo sft      the supervised start alone
  oreo collect  the start, then offline episodes of it
  oreo train    one algorithm (algo=oreo|dpo|kto|rejection|...), then its evaluation
  oreo eval     RUN, or RUN/NAME: measure what a run trained, on its tasks; or a checkpoint (policy.path=...,
                value.path=...), or how it ranks preference pairs (data=PAIRS), or its value (what=value)
  oreo report   DIR... : one table and plots from any set of run folders (--base ROW, --over SETTING, --format csv)
  oreo show     RUN, RUN/NAME or a buffer: read answers and how they were judged (--wrong, --compare, --values)
  oreo push     FOLDER REPO_ID : a policy or value network with its card to the Hugging Face hub (--dry-run)
  oreo doctor   what a checkpoint can do here: loading, scoring, sampling, template, adapters (policy.path=...)
  oreo data     import, encode or describe episode buffers; generate houses
  oreo metrics  [NAME...] : what the numbers that a training logs mean
  oreo serve    RUN/NAME, or policy.path=... : answers over HTTP in OpenAI's form, searched by V
  oreo chat     RUN/NAME, policy.path=... or --url URL : talk to a policy in the terminal, steps coloured by V
  oreo play     ID : play an environment yourself, in the terminal (--split, --index, --path)
  oreo new      env | algo | search NAME : write a package of your own that works, to be changed

Your own environments, algorithms and searches: env.id=MODULE:ID, --import MODULE_OR_FILE.py, --config-dir DIR, or an
installed package with entry points; see docs/extending.md.

Settings are given as key=value, sweeps with -m:

  oreo run experiment=smoke
  oreo train -m algo=oreo,dpo,rejection seed=0,1,2
  oreo collect policy=expert env=alfworld
  oreo train algo=oreo env=gsm8k policy.path=Qwen/Qwen2.5-Math-1.5B data=episodes/
  oreo eval outputs/run/... search=[greedy,majority,step_beam] budget=[100,200,400]

`oreo COMMAND --help` explains a command, `oreo COMMAND --help GROUP` lists the settings of a group with what they mean;
`oreo --version` tells the version.
"""


# Jobs of a sweep that begin in the same way share the start and the episodes, kept here.
_SHARED = Path("outputs") / "starts"


# What may be written for a longer key; `search` is also a group of files, which no command chooses from by itself.
_SHORT = {"search": "evaluate.searches", "budget": "evaluate.budget", "tracker": "trainer.tracker"}


# What a run may do more of, or otherwise, in a folder that it worked in before: nothing that is there becomes wrong.
_GROWING = (
    "rounds",
    "iteration.rounds",
    "algos",
    "workers",
    "imports",
    "trainer.tracker",
    "evaluate.keep",
    "evaluate.pairs.data",
    "sampler",
    "value.url",
    "trainer.sharding",
    "trainer.cpu_offload",
)

# What lies in a folder before a run has done anything in it.
_BEFORE_ANYTHING = {"config.yaml", "cli.log", ".run.lock", ".config.lock", ".hydra", "failed.json"}


def main() -> None:
    """Run the command line; exit code 0 on success, 2 for a mistake of the user."""
    command, *arguments = sys.argv[1:] or ["--help"]
    try:
        arguments, imports = plugged_in(arguments)
        together.join(command)
        if command in ("-h", "--help", "help"):
            print(USAGE, end="")
        elif command == "--version":
            print(f"oreo {version('oreo-suite')}")
        elif text := asked_of_parser(command, arguments):
            print(text, end="")
        elif command == "report":
            from oreo_agents.evaluation.report import main as report

            report(arguments)
        elif command == "data":
            from oreo_agents.runs.data import main as data

            data(arguments)
        elif command == "doctor":
            from oreo_agents.runs.checkup import main as doctor

            doctor(arguments)
        elif command == "metrics":
            from oreo_agents.runs.metrics import main as metrics

            metrics(arguments)
        elif command == "show":
            from oreo_agents.runs.show import main as show

            show(arguments)
        elif command == "push":
            from oreo_agents.runs.push import main as push

            push(arguments)
        elif command == "play":
            from oreo_agents.runs.play import main as play

            play(arguments)
        elif command in _JOBS and (text := asked(command, arguments)):
            print(text, end="")
        elif command == "serve":
            from oreo_agents.runs.serve import main as serve

            serve(arguments)
        elif command == "chat":
            from oreo_agents.runs.chat import main as chat

            chat(arguments)
        elif command == "new":
            from oreo_agents.runs.new import main as new

            new(arguments)
        elif command in _JOBS:
            _run_hydra(command, arguments, imports)
            together.leave()
        else:
            known = [*_JOBS, "report", "data", "doctor", "metrics", "serve", "chat", "play", "new", "push", "show"]
            raise UserError(f"unknown command {command!r}{closest(command, known)}\n\n{USAGE}")
    except (UserError, ValueError, FileNotFoundError) as error:
        _fail(error)


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
    run = _prepare(config, folder, chosen, supervised=True)
    rows = run.train_and_evaluate(["sft", *chosen])
    run.ranks.first(lambda: report([folder], folder, quiet=in_sweep()))
    return score(rows, folder)


def _train(config: DictConfig, folder: Path) -> float | None:
    from oreo_agents.evaluation.report import report

    name = HydraConfig.get().runtime.choices["algo"]
    # The start is no part of these results, so no value is tried on it.
    config.evaluate.start_value = None
    run = _prepare(config, folder, {name: config.algo}, shared=_SHARED)
    rows = run.train_and_evaluate([name])
    run.ranks.first(lambda: report([folder], folder, quiet=in_sweep()))
    return score(rows, folder)


def _sft(config: DictConfig, folder: Path) -> None:
    run = _prepare(config, folder, {}, supervised=True)
    run.prepare(episodes=False)
    path = run.sft()
    if run.ranks.leads:
        print(f"policy: {path}")


def _collect(config: DictConfig, folder: Path) -> None:
    from oreo_agents.episodes.parts import Shard

    shard = None if config.shard is None else Shard.parse(config.shard)
    config.shard = None  # shards may share a folder, and its configuration
    # The jobs of a sweep over shards begin with one start.
    run = _prepare(config, folder, {}, shared=_SHARED if shard and in_sweep() else None)
    if shard is None:
        run.prepare(episodes=True)
        print(f"{folder / 'data' / 'episodes'}: {run.episodes().stats()}")
    else:
        run.data.require_shard(shard)
        run.prepare(episodes=False)
        buffer = run.data.shard(run.sft(), shard).buffer
        print(f"{buffer.folder}: {buffer.stats()}; oreo data merge joins the {shard.of} shards")


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
    """Say in what the tasks to evaluate on differ from those of the run that trained the policy.

    Returns:
        A sentence; None when they do not differ, or when the policy does not lie in a run folder.
    """
    from oreo_agents.evaluation.run_settings import read_config

    trained = Path(config.policy.path or "").parent.parent / "config.yaml"
    if config.policy.path is None or not trained.exists():
        return None
    before, now = read_config(trained).get("env") or {}, config.env
    names = sorted({*before.get("options", {}), *now.options})
    pairs = {"id": (before.get("id"), now.id)}
    pairs |= {f"options.{name}": (before.get("options", {}).get(name), now.options.get(name)) for name in names}
    differing = [f"env.{name}={new} (there {old})" for name, (old, new) in pairs.items() if old != new]
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
    evaluate_value(_prepare(config, folder, {}), settings)


def _subjects(config: DictConfig) -> tuple[list[Network], Path]:
    """Return what to measure, and where the configuration of the run lies that trained it, if any did."""
    if config.run is not None:
        subjects = networks(Path(config.run))
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

    run = _prepare(config, folder, {})
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
    return any(text.startswith(f"{_SHORT[short]}=") for text in HydraConfig.get().overrides.task)


_JOBS: dict[str, Callable[[DictConfig, Path], float | None]] = {
    "run": _run,
    "sft": _sft,
    "collect": _collect,
    "train": _train,
    "eval": _evaluate,
}


def _prepare(
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
    from oreo_agents.runs.pipeline import Run
    from oreo_algos import ranks

    quiet()
    settings = settings_from_config(config, algorithms)
    if settings.policy.path is not None and not supervised:
        settings = dataclasses.replace(settings, sft=dataclasses.replace(settings.sft, demonstrations=0))
    if settings.workers is None and beside_others():
        settings = dataclasses.replace(settings, workers=1)
    ranks.current().first(lambda: _write_down(config, folder))
    return Run(settings, folder, shared=shared)


def _write_down(config: DictConfig, folder: Path) -> None:
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
            names = {entry.name for entry in folder.iterdir() if not re.fullmatch(r"\.run-.*\.lock", entry.name)}
            begun = bool(names - _BEFORE_ANYTHING)
            if begun and _lasting(OmegaConf.create(before)) != _lasting(OmegaConf.create(text)):
                raise ValueError(
                    f"{folder} holds a run with another configuration (see {path}); choose another hydra.run.dir, or "
                    f"delete it to start again; only {', '.join(_GROWING)} may change"
                )
        write_text(path, text)


def _lock(config: DictConfig) -> str:
    """Return the name of the lock on a run folder; shards of a collection may work in one at the same time."""
    shard = config.get("shard")
    return ".run.lock" if shard is None else f".run-{re.sub('[^0-9]', '-', str(shard))}.lock"


def _lasting(config: Any) -> Any:
    """Return the settings that may not change in a folder."""
    for key in _GROWING:
        OmegaConf.update(config, key, None)
    return config


def _run_hydra(command: str, arguments: Sequence[str], imports: Sequence[str]) -> None:
    # Several trackers are told of one run: nothing to sweep over.
    overrides = [re.sub(r"^(trainer\.)?tracker=(\w+(?:,\w+)+)$", r"trainer.tracker=[\2]", text) for text in arguments]
    overrides = [re.sub(r"^search=(?![\[\"'])(.+)", one_search_a_job, text) for text in overrides]
    for short, key in _SHORT.items():
        overrides = [re.sub(f"^{short}=", f"{key}=", text) for text in overrides]
    overrides = readable(overrides)
    imports = [*imports, *modules_of_env(overrides)]
    named = next((place for place, text in enumerate(overrides) if text.startswith("env.id=")), None)
    if named is not None and not any(text.startswith("env=") for text in overrides):
        overrides.insert(named, "env=own")
    if command == "eval" and overrides and not re.match(r"-|[^/]*=", overrides[0]):
        folder, *others = overrides
        overrides = [*evaluation_overrides(Path(folder), others), *others]
    overrides = with_environment(command, overrides)
    chosen = [text for text in overrides if re.match(r"policy\.path=(?!null$)", text)]
    if chosen and not any(text.startswith("policy=") for text in overrides):
        overrides.insert(0, "policy=checkpoint")
    if imports:
        overrides.insert(0, f"++imports={hydra_text(list(dict.fromkeys(imports)))}")
    given = get_args_parser().parse_known_args(flags_first(overrides))[0].overrides
    overrides += further_overrides(command, given)  # at the end: a recipe wins over the file of its algorithm
    check_overrides(command, get_args_parser().parse_known_args(flags_first(overrides))[0].overrides)

    def work(config: DictConfig, folder: Path) -> float | None:
        # A launcher may have started this process, and the id may stand in a file of settings.
        leads = together.meet(folder)
        named = [*plain_value(config, "imports", Sequence[str]), *modules_of_env([f"env.id={config.env.id}"])]
        config.imports = list(dict.fromkeys(map(plugins.import_named, named)))
        with FileLock(folder / _lock(config), blocking=False) if leads else nullcontext():
            try:
                return _JOBS[command](config, folder)
            finally:
                if (engines := sys.modules.get("oreo_agents.runs.engines")) is not None:
                    engines.close_engines()

    def job(config: DictConfig) -> float | None:
        folder = Path(HydraConfig.get().runtime.output_dir)
        if in_sweep():
            return run_job(folder, lambda: work(config, folder), partial(_explain, folder))
        try:
            return work(config, folder)
        except Exception as error:  # whatever it was, the others have ended or are to end
            if _explain(folder, error) is not None:
                logging.getLogger(__name__).debug("details", exc_info=True)
                _fail(ValueError(_explain(folder, error)))
            try:
                together.end(error, folder)
            except together.LostError as lost:
                print(f"oreo: {lost}", file=sys.stderr)
                raise SystemExit(2) from error

    sys.argv = [f"oreo {command}", *flags_first(with_folders([*overrides, *together.follow()]))]
    try:
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=command)(job)()
    finally:
        conclude()


def _explain(folder: Path, error: Exception) -> str | None:
    """Say in a sentence what was wrong where the user can mend it; None: an error of the program."""
    if isinstance(error, Timeout):
        return f"{folder}: another process works in this folder; wait for it or choose another folder"
    return str(error) if isinstance(error, (ValueError, FileNotFoundError, OmegaConfBaseException)) else None


def _fail(error: Exception) -> NoReturn:
    if together.speaks():
        print(f"oreo: {error}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
