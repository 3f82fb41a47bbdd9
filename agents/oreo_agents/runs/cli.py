"""The command ``oreo``: which commands there are, and how those that run jobs are handed to Hydra.

Knows: arguments, Hydra's main function. Does not know: what a job does (``jobs``).
"""

import logging
import re
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from traceback import extract_tb
from typing import Any, NoReturn

import hydra
from filelock import FileLock, Timeout
from hydra._internal import utils as hydra_utils
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from oreo_agents import own_code, plugins
from oreo_agents.runs import leftovers, together
from oreo_agents.runs.arguments import (
    at_home,
    flags_first,
    modules_of_env,
    one_search_a_job,
    plugged_in,
    with_environment,
)
from oreo_agents.runs.building import plain_value
from oreo_agents.runs.choices import config_folder, with_folders
from oreo_agents.runs.composing import composed_once
from oreo_agents.runs.failures import machine_failure
from oreo_agents.runs.helps import asked, asked_of_parser
from oreo_agents.runs.jobs import JOBS, SHORT, lock_name, settle_algorithms, settle_policy
from oreo_agents.runs.overrides import (
    UserError,
    check_flags,
    check_overrides,
    further_overrides,
    readable,
    require_no_sweep,
    sweeper_overrides,
)
from oreo_agents.runs.run_folders import (
    evaluation_overrides,
    hydra_text,
)
from oreo_agents.runs.sweeps import conclude, in_sweep, run_job
from oreo_algos import stopping
from oreo_envs.checks import closest
from oreo_envs.visible import visible

_run_and_report = hydra_utils.run_and_report

_HELP = ("-h", "--help", "help")

_OTHERS = {
    "report": "oreo_agents.evaluation.report",
    "doctor": "oreo_agents.runs.checkup",
    **{
        name: f"oreo_agents.runs.{name}"
        for name in ("reproduce", "data", "metrics", "show", "push", "play", "serve", "chat", "new")
    },
}
"""Commands that run no job of Hydra, and the modules whose ``main`` takes their arguments."""

_folders: dict[str, str] = {"sweep": "", "run": ""}
"""Where this process works: of a sweep, or of a run."""

USAGE = """\
oreo: offline reinforcement learning of multi-step reasoning

  oreo run      supervised start, collection, every algorithm, evaluation, report
  oreo sft      the supervised start alone
  oreo collect  the start, then offline episodes of it
  oreo train    one algorithm (algo=oreo|dpo|kto|rejection|...), then its evaluation
  oreo eval     RUN, or RUN/NAME: measure what a run trained, on its tasks; or a checkpoint (policy.path=...,
                value.path=...), or how it ranks preference pairs (data=PAIRS), or its value (what=value)
  oreo report   DIR... : one table and plots from any set of run folders (--base ROW, --over SETTING, --format csv)
  oreo reproduce  table1 | table2 | fig2 | fig3 | fig4 | fig5 : the paper's, in miniature (--scale paper: on GPUs)
  oreo show     RUN, RUN/NAME or a buffer: read answers and how they were judged (--wrong, --compare, --values)
  oreo push     FOLDER REPO_ID : a policy or value network with its card to the Hugging Face hub (--dry-run)
  oreo doctor   RUN/NAME, or policy.path=...: what it can do here: loading, scoring, sampling, template, adapters
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


def main() -> None:
    """Run the command line.

    The exit code is 0 on success, 2 for a mistake of the user, 1 where the machine failed (a full disk, say), and that
    of a shell for a command that a signal ended: 130 for Ctrl-C, 143 for SIGTERM.
    """
    logging.raiseExceptions = False  # a log that cannot be written on a full disk is no news
    try:
        with stopping.listening(quiet=not together.leads()):
            _command()
    except KeyboardInterrupt as error:
        number = getattr(error, "number", signal.SIGINT)
        if together.speaks():
            kept = getattr(error, "kept", "") or "nothing half-written is left"
            print(f"oreo: ended by {stopping.name_of(number)}: {visible(kept)}{_how_to_go_on()}", file=sys.stderr)
        raise SystemExit(stopping.exit_code(number)) from None


def _how_to_go_on() -> str:
    kind = next((kind for kind, folder in _folders.items() if folder), None)
    return "" if kind is None else f"; the same command with hydra.{kind}.dir={_folders[kind]} goes on from there"


def _say(text: str) -> None:
    if together.leads():
        print(text, end="")


def _command() -> None:
    command, *arguments = sys.argv[1:] or ["--help"]
    try:
        arguments, imports = plugged_in(at_home(arguments))
        if command not in (*_HELP, "--version"):
            together.join(command)
        if command in _HELP:
            _say(USAGE)
        elif "--version" in (command, *(arguments if command in JOBS else ())):
            _say(f"oreo {version('oreo-suite')}\n")
        elif text := asked_of_parser(command, arguments):
            _say(text)
        elif command in _OTHERS:
            import_module(_OTHERS[command]).main(arguments)
        elif command not in JOBS:
            names = [*JOBS, *_OTHERS]
            raise UserError(
                f"unknown command {command!r}{closest(command, names)}; `oreo --help` explains: {', '.join(names)}"
            )
        elif text := asked(command, arguments):
            _say(text)
        else:
            with composed_once():
                _run_hydra(command, arguments, imports)
            together.leave()
    except Exception as error:  # code from outside may raise anything
        stopping.check()  # it failed because it was told to end
        if (own := own_code.told(error)) is not None:
            _fail(ValueError(own))
        if not isinstance(error, UserError | ValueError) and (said := machine_failure(error)) is not None:
            _fail(OSError(said), code=1)
        if not isinstance(error, UserError | ValueError | FileNotFoundError):
            raise
        _fail(error)


def _run_hydra(command: str, arguments: Sequence[str], imports: Sequence[str]) -> None:
    _folders.update(dict.fromkeys(_folders, ""))
    leftovers.forget()
    # Several trackers are told of one run: nothing to sweep over.
    overrides = [re.sub(r"^(trainer\.)?tracker=(\w+(?:,\w+)+)$", r"trainer.tracker=[\2]", text) for text in arguments]
    overrides = [re.sub(r"^search=(?![\[\"'])(.+)", one_search_a_job, text) for text in overrides]
    for short, key in SHORT.items():
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
    parsed, unknown = get_args_parser().parse_known_args(flags_first(overrides))
    check_flags(command, unknown, parsed)
    given = parsed.overrides
    if not parsed.multirun:
        require_no_sweep(command, given)
    together.require_one_run(in_sweep=parsed.multirun)
    overrides += further_overrides(command, given)  # at the end: a recipe wins over the file of its algorithm
    given = get_args_parser().parse_known_args(flags_first(overrides))[0].overrides
    check_overrides(command, given)
    overrides += sweeper_overrides(command, given)

    def work(config: DictConfig, folder: Path) -> float | None:
        # A launcher may have started this process, and the id may stand in a file of settings.
        leads = together.meet(folder, in_sweep=in_sweep())
        named = [*plain_value(config, "imports", Sequence[str]), *modules_of_env([f"env.id={config.env.id}"])]
        config.imports = list(dict.fromkeys(map(plugins.import_named, named)))
        settle_algorithms(command, config)
        settle_policy(config)
        with FileLock(folder / lock_name(config), blocking=False) if leads else nullcontext():
            try:
                return JOBS[command](config, folder)
            except Exception:
                stopping.check()  # it failed because it was told to end
                raise
            finally:
                if (engines := sys.modules.get("oreo_agents.runs.engines")) is not None:
                    engines.close_engines()

    def job(config: DictConfig) -> float | None:
        folder = Path(HydraConfig.get().runtime.output_dir)
        _folders["sweep" if in_sweep() else "run"] = str(HydraConfig.get().sweep.dir if in_sweep() else folder)
        if in_sweep():
            return run_job(folder, lambda: work(config, folder), partial(_explain, folder))
        try:
            return work(config, folder)
        except Exception as error:  # whatever it was, the others have ended or are to end
            if (said := _machine(folder, error)) is not None:
                _fail(OSError(said), code=1)
            if (why := _explain(folder, error)) is not None:
                if together.leads():
                    leftovers.take_back()
                _fail(ValueError(why))
            try:
                together.end(error, folder)
            except together.LostError as lost:
                print(f"oreo: {lost}", file=sys.stderr)
                raise SystemExit(2) from error

    sys.argv = [f"oreo {command}", *flags_first(with_folders([*overrides, *together.follow()]))]
    hydra_utils.run_and_report = _reporting  # type: ignore[assignment]
    try:
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=command)(job)()
    finally:
        if stopping.asked() is None:
            conclude()


def _reporting(work: Callable[[], Any]) -> Any:
    """Call what Hydra calls, which would show a traceback where it cannot write."""

    def told() -> Any:
        try:
            return work()
        except Exception as error:  # of Hydra itself, which lets anything through that its settings bring about
            if (said := machine_failure(error)) is not None:
                _fail(OSError(said), code=1)
            if any(frame.name == "job" and frame.filename == __file__ for frame in extract_tb(error.__traceback__)):
                raise
            if isinstance(error, FileNotFoundError):
                _fail(
                    OSError(f"{error.filename}: nothing can be made there; choose another hydra.run.dir=FOLDER"), code=1
                )
            why = " ".join(" ".join(str(each) for each in (error, error.__cause__) if each is not None).split())
            _fail(ValueError(f"settings of Hydra (hydra.*): {why}"))

    return _run_and_report(told)


def _machine(folder: Path, error: Exception) -> str | None:
    """Say where the machine failed, if it did: not what the user was told already."""
    if isinstance(error, (ValueError, FileNotFoundError)) or own_code.explained(error) is not None:
        return None
    return machine_failure(error, folder)


def _explain(folder: Path, error: Exception) -> str | None:
    """Say in a sentence what was wrong where the user can mend it; None: an error of the program."""
    if isinstance(error, Timeout):
        return f"{folder}: another process works in this folder; wait for it or choose another folder"
    if (own := own_code.told(error)) is not None:
        return own
    if (said := _machine(folder, error)) is not None:
        return said
    return str(error) if isinstance(error, (ValueError, FileNotFoundError, OmegaConfBaseException)) else None


def _fail(error: Exception, *, code: int = 2) -> NoReturn:
    if together.speaks():
        print(f"oreo: {visible(str(error))}", file=sys.stderr)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
