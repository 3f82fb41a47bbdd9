"""``oreo reproduce``: the tables and figures of the paper, run and reported.

Knows: how runs are started side by side, and gone on with. Does not know: what is run, what comes of it.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oreo_agents.reproduction.studies import STUDIES, Model, Scale, Stage, Study
from oreo_agents.runs.option_types import whole
from oreo_agents.runs.run_folders import hydra_text
from oreo_agents.terminal import Terminal, say
from oreo_algos import stopping
from oreo_algos.storage.atomic import write_text

DESCRIPTION = """\
Runs what a table or figure of the paper takes and is not there yet, then writes NAME.md, NAME.csv and NAME.png: the
paper's numbers, labelled as theirs, beside ours with runs, n, 95% intervals, paired tests and minutes. Started again,
it goes on where it was stopped; what two of them share is run once.

  table1  algorithms on word problems          fig2  rounds of collecting       fig4  best of K actions by V, games
  table2  algorithms on ALFWorld               fig3  step beam search by V      fig5  token, step and response level

--scale tiny takes small models from random weights and about an hour on two cores, paper the checkpoints and settings
of the paper, and GPUs."""

if TYPE_CHECKING:
    from oreo_agents.runs.settings import RunSettings

_DONE = ".done"
_OREO = (sys.executable, "-m", "oreo_agents.runs.cli")


def parser() -> argparse.ArgumentParser:
    """Return what reads the arguments."""
    made = argparse.ArgumentParser(
        "oreo reproduce", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("study", choices=list(STUDIES), metavar="|".join(STUDIES))
    made.add_argument("--scale", choices=("tiny", "paper"), default="tiny", help="tiny by default")
    made.add_argument("--repeats", type=whole(1, 1000), default=None, metavar="N", help="runs of each: 3, with paper 1")
    made.add_argument(
        "--jobs", type=whole(1, 1000), default=None, metavar="N", help="side by side: one a core, with paper 1"
    )
    made.add_argument("--out", type=Path, default=Path("outputs/reproduce"), metavar="FOLDER", help="%(default)s")
    made.add_argument("--only-report", action="store_true", help="run nothing, report what is done")
    made.add_argument("--dry-run", action="store_true", help="check and print the commands, run nothing")
    return made


class Commands:
    """Commands under way, each a process that hears of a signal from this one alone, whoever sent it."""

    def __init__(self) -> None:
        """Begin with none."""
        self._running = set[subprocess.Popen[bytes]]()
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> int:
        """Run one to its end and return its exit code; what it says is in ``log``.

        Raises:
            RuntimeError: ``stop`` came before it began.
        """
        with log.open("wb") as file:
            with self._lock:
                if self._stopped:
                    raise RuntimeError("stopped before it began")
                process = subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                )
                self._running.add(process)
            code = process.wait()
        self._running.discard(process)
        return code

    def stop(self, number: int) -> None:
        """Send a signal to all that run, and begin no more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.send_signal(number)


@dataclass(frozen=True)
class Job:
    """A stage of one repetition, in its folder."""

    stage: Stage
    k: int
    out: Path

    @property
    def folder(self) -> Path:
        """Where it runs."""
        return self.out / self.stage.name.format(k=self.k)

    @property
    def before(self) -> "Job | None":
        """The job that it goes on from."""
        return None if self.stage.of is None else Job(self.stage.of, self.k, self.out)

    @property
    def command(self) -> list[str]:
        """What follows ``oreo``, but for its folder."""
        before = self.before
        places = {"k": self.k, "of": "" if before is None else before.folder}
        return [self.stage.command, *(text.format(**places) for text in self.stage.arguments)]

    def is_done(self) -> bool:
        """Whether it came to its end.

        Raises:
            ValueError: another command was run in its folder.
        """
        mark = self.folder / _DONE
        if not mark.exists():
            return False
        if self._placeless(json.loads(mark.read_text(encoding="utf-8"))) != self._placeless(self.command):
            raise ValueError(
                f"{self.folder} was made by another command (see {mark}): delete it, or give another --out"
            )
        return True

    def _placeless(self, command: Sequence[str]) -> list[str]:
        """Return a command of this stage in which the folder that it goes on from stands without those above it."""
        template = [self.stage.command, *self.stage.arguments]
        if len(command) != len(template):
            return [*command]
        pairs = zip(template, command, strict=True)
        return ["/".join(Path(text).parts[-2:]) if "{of}" in one else text for one, text in pairs]

    def run(self, threads: int | None, commands: Commands) -> None:
        """Run what is missing of it and of those before it.

        Raises:
            RuntimeError: a command failed; by the command, with the end of what it said.
        """
        if self.is_done():
            return
        if self.before is not None:
            self.before.run(threads, commands)
        say(f"{self.folder.name}: oreo {' '.join(self.command)}")
        log = self.folder.with_name(self.folder.name + ".log")
        began = time.monotonic()
        command = [*_OREO, *self.command, f"hydra.run.dir={hydra_text(str(self.folder))}"]
        environment = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
        if commands.run(command, log, environment):
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise RuntimeError(
                f"oreo {' '.join(self.command)} failed, see {log}: {lines[-1] if lines else 'no output'}"
            )
        write_text(self.folder / _DONE, json.dumps(self.command))
        say(f"{self.folder.name}: done in {(time.monotonic() - began) / 60:.1f} minutes")


def main(arguments: Sequence[str]) -> None:
    """Run what is missing, and report.

    Raises:
        ValueError: a device is missing, a folder holds something else, or a run failed: what is done is reported first.
    """
    given = parser().parse_args(arguments)
    study, scale = STUDIES[given.study], given.scale
    repeats = given.repeats or (3 if scale == "tiny" else 1)
    out = given.out / scale
    jobs = {
        column.title: [Job(column.stages[scale], k, out) for k in range(repeats)]
        for column in study.columns
        if scale in column.stages
    }
    distinct = list(dict.fromkeys(job for several in jobs.values() for job in several))
    if given.dry_run or (scale == "paper" and not given.only_report):
        _check(study, scale, distinct)
        if given.dry_run:
            return
        _require_gpu(study)
    failed = [] if given.only_report else _run(distinct, given.jobs, scale, out)
    _report(study, scale, jobs, repeats, out)
    if failed:
        raise ValueError("\n".join(failed) + "\nthe same command goes on where it was stopped")


def _run(jobs: Sequence[Job], side_by_side: int | None, scale: Scale, out: Path) -> list[str]:
    """Run jobs, and return what failed.

    Raises:
        Interrupted: a signal ended them, each where it keeps what it has done.
    """
    out.mkdir(parents=True, exist_ok=True)
    commands = Commands()
    size = side_by_side or ((os.cpu_count() or 1) if scale == "tiny" else 1)
    with ThreadPoolExecutor(size) as pool:
        started: list[Future[None]] = []
        try:
            started += [pool.submit(job.run, 1 if scale == "tiny" else None, commands) for job in jobs]
            return [str(error) for future in started if (error := future.exception()) is not None]
        except KeyboardInterrupt as error:
            number = getattr(error, "number", signal.SIGINT)
            pool.shutdown(wait=False, cancel_futures=True)
            say("the runs under way end where they can go on from; once more ends them at once")
            _stop(commands, number, started)
            kept = f"what the runs have done is kept in {out}; the same command goes on from there"
            raise stopping.Interrupted(number, kept) from None


def _stop(commands: Commands, number: int, started: Sequence[Future[None]]) -> None:
    """End what runs and wait for it; a further signal is handed on."""
    commands.stop(number)
    # One that was cancelled before it began is never done, as `wait` counts.
    running = [future for future in started if not future.cancelled()]
    try:
        wait(running)
    except KeyboardInterrupt:
        commands.stop(number)
        wait(running)


def _report(study: Study, scale: Scale, jobs: dict[str, list[Job]], repeats: int, out: Path) -> None:
    """Print and write what is done."""
    from oreo_agents.reproduction.outcome import Outcome

    done = {title: [job.folder / "results.json" for job in own if job.is_done()] for title, own in jobs.items()}
    if not any(done.values()):
        say(f"{study.name}: no run of it is done in {out} yet")
        return
    outcome = Outcome(study, scale, done, repeats)
    console = Terminal(width=max(Terminal().width, 140))
    console.print(*outcome.tables(), sep="\n")
    console.print(*outcome.notes(), sep="\n")
    say(f"{study.name}: {', '.join(map(str, outcome.write(out)))}")


def _check(study: Study, scale: Scale, jobs: Sequence[Job]) -> None:
    """Compose what every command is given, and print it with the memory that an update will take.

    Raises:
        ValueError: settings do not fit together.
    """
    from oreo_agents.runs.overrides import composed_settings

    say(f"{study.title}, --scale {scale}:")
    counted = set[Model]()
    for job in (each for last in jobs for each in _chain(last)):
        say(f"  oreo {' '.join(job.command)} hydra.run.dir={job.folder}")
        if job.stage.command != "run":
            continue
        settings = composed_settings(job.stage.command, job.command[1:])
        if (model := job.stage.model) is not None and model.shape is not None and model not in counted:
            counted.add(model)
            say(f"    {_memory(settings, model.shape)}")


def _chain(job: Job) -> Iterator[Job]:
    if job.before is not None:
        yield from _chain(job.before)
    yield job


def _memory(settings: "RunSettings", shape: Mapping[str, Any]) -> str:
    """Say what the update of a model of this shape takes that takes most."""
    from transformers import AutoConfig

    from oreo_agents.runs.memory import predict_update

    algorithms = dict(settings.algorithms)
    if settings.sft.demonstrations != 0:
        algorithms["sft"] = settings.sft.algorithm
    config = AutoConfig.for_model(**shape)
    found = {name: predict_update(settings, algorithm, config) for name, algorithm in algorithms.items()}
    name, memory = max(found.items(), key=lambda pair: pair[1].total)
    return f"{name}: {memory}"


def _require_gpu(study: Study) -> None:
    """Refuse where there is no GPU.

    Raises:
        ValueError: by what can be done instead.
    """
    import torch

    if not torch.cuda.is_available():
        raise ValueError(
            f"--scale paper trains models of 1.5 to 7 billion parameters, and no GPU is in sight here: the commands "
            f"above are for a machine with one (several: docs/scale.md); without one, oreo reproduce {study.name}"
        )
