"""Sweeps: what a job returns, how one that fails ends alone, what is told of all of them at the end.

Knows: Hydra's launchers and sweepers by their settings. Does not know: how a job does its work.
A launcher runs jobs in this process or in others, here or elsewhere; they tell of themselves by files in their folders.
"""

import logging
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from oreo_agents.runs import leftovers
from oreo_envs.limits import files_below
from oreo_envs.visible import visible

_log = logging.getLogger(__name__)

_BASIC = "hydra._internal.core_plugins.basic_"


class Sweeps(Callback):
    """Remembers the sweeps that this process began, for ``conclude``, and how their folders and those of runs were.

    Attributes:
        begun: their folders.
    """

    begun: ClassVar[list[Path]] = []

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Remember the folder."""
        Sweeps.begun.append(Path(config.hydra.sweep.dir))
        leftovers.watch(Path(config.hydra.sweep.dir))

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Remember the folder of a run."""
        leftovers.watch(Path(config.hydra.run.dir))


def in_sweep() -> bool:
    """Whether this is a job of a sweep, whose tables a joint report shows when all are done."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def beside_others() -> bool:
    """Whether a launcher runs other jobs beside this one, so that it should not take all cores."""
    return in_sweep() and not str(HydraConfig.get().launcher.get("_target_", "")).startswith(_BASIC)


def run_job(folder: Path, work: Callable[[], float | None], explain: Callable[[Exception], str | None]) -> float:
    """Do the work of a job; one that fails is noted, and the others go on.

    Args:
        folder: of the job.
        work: returns what the job came to, see ``score``.
        explain: says in a sentence what was wrong where the user can mend it; None: an error of the program.

    Returns:
        A number for a sweeper; NaN: there is none.

    Raises:
        RuntimeError: it failed, and the sweeper chooses settings: NaN would end it, and this counts as a failed trial.
    """
    from oreo_agents.evaluation.failed_jobs import clear, write_begin, write_failure

    settings = list(HydraConfig.get().overrides.task)
    write_begin(folder, settings)
    try:
        found = work()
    except Exception as error:  # whatever it is, other jobs have nothing to do with it
        why = explain(error)
        _log.error("%s: this job gives no result: %s", folder, why or "see below", exc_info=None if why else error)
        why = why or f"{type(error).__name__}: {error}"
        write_failure(folder, settings, why)
        if _chooses(HydraConfig.get()):
            raise RuntimeError(why) from None
        return math.nan
    clear(folder)
    return math.nan if found is None else found


def conclude() -> None:
    """Report on the sweeps that this process began: one table of all jobs with results, one of those without.

    Raises:
        SystemExit: with 2, if a job has failed.
    """
    if not Sweeps.begun:
        return
    from oreo_agents.evaluation.failed_jobs import failed_table, load_failed
    from oreo_agents.evaluation.report import report

    failed = []
    while Sweeps.begun:
        folder = Sweeps.begun.pop(0)
        own = load_failed([folder])
        if files_below(folder, "results.json"):
            report([folder], folder)
        elif own:
            Console(width=max(Console().width, 120)).print(failed_table(own))
        failed += own
    for job in failed:
        print(visible(f"oreo: {job.folder} ({job.settings}) gave no result: {job.why}"), file=sys.stderr)
    if failed:
        leftovers.take_back()
        raise SystemExit(2)


def score(rows: Sequence[Mapping[str, Any]], folder: Path, split: str = "dev") -> float | None:
    """Return what a job came to, for a sweeper that chooses settings by it: never what held-out tasks say.

    Args:
        rows: of the results.
        folder: of the run.
        split: for development.

    Returns:
        Accuracy of the first search on the split, the mean of what was trained; without such rows that which was
        measured last on the way, see ``trainer.evaluate_every``; None: neither.
    """
    rows = [row for row in rows if row.get("split") == split and row.get("accuracy") is not None]
    trained = [row for row in rows if row["algo"] != "sft"] or rows
    found = [float(row["accuracy"]) for row in trained if row["search"] == trained[0]["search"]]
    if not found:
        from oreo_algos.training.metrics_writer import FILE_NAME, read_metrics

        for file in folder.glob(f"*/{FILE_NAME}"):
            curve = [
                row[key] for row in read_metrics(file.parent) for key in row if re.fullmatch("eval/.*/accuracy", key)
            ]
            found += curve[-1:]
    return sum(found) / len(found) if found else None


def what_is_missing(config: DictConfig, overrides: Sequence[str]) -> str | None:
    """Say what a sweeper that chooses settings has to be given; None: nothing, or it chooses none.

    Args:
        config: of a job, with Hydra's own settings as they are in files.
        overrides: of the command line.
    """
    if not _chooses(config.hydra):
        return None
    direction = _told(config, overrides, "direction") or "maximize"
    if (name := getattr(direction, "name", direction)) != "maximize":
        return f"jobs return their accuracy, and this sweeper would {name} it; give hydra.sweeper.direction=maximize"
    splits = OmegaConf.select(config, "evaluate.splits") or ()
    if "dev" in splits or OmegaConf.select(config, "trainer.evaluate_every"):
        return None
    return (
        "this sweeper chooses settings by the accuracy of jobs, which must not be that on test tasks: add the split "
        "for development, evaluate.splits=[dev,test], or trainer.evaluate_every=STEPS where there is none"
    )


def lets_others_go_on(config: DictConfig, overrides: Sequence[str]) -> list[str]:
    """Return overrides with which a sweeper that ends at the first job that fails, unless told otherwise, goes on."""
    return ["hydra.sweeper.max_failure_rate=1"] if _told(config, overrides, "max_failure_rate") == 0 else []


def _told(config: DictConfig, overrides: Sequence[str], name: str) -> Any:
    """Return a setting of the sweeper: what the command line says, else what its file does; None: it has none."""
    given = [text.partition("=")[2] for text in overrides if text.lstrip("+").startswith(f"hydra.sweeper.{name}=")]
    return given[-1] if given else config.hydra.sweeper.get(name)


def _chooses(hydra: Any) -> bool:
    """Whether the sweeper goes where jobs do better."""
    return not str(hydra.sweeper.get("_target_", "")).startswith(_BASIC)
