"""Where the numbers of a training run are shown beside ``metrics.jsonl``: TensorBoard, wandb, trackio, mlflow.

Knows: one hook, ``Tracker``, and how each service is told. Does not know: what the numbers mean, files of metrics.

A service is imported when it is asked for. What it does wrong while a run trains ends the reports to it, not the run.
"""

import importlib
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.util import find_spec
from os import environ
from pathlib import Path
from time import time
from typing import Any, Protocol
from uuid import uuid4

from oreo_algos.storage.atomic import write_text

_log = logging.getLogger(__name__)

DEFAULT = ("tensorboard",)


class Tracker(Protocol):
    """What a service of experiment tracking is asked to do; the calls come in this order."""

    def start(self, settings: Mapping[str, Any]) -> None:
        """Begin, or go on with, a run of these settings, JSON by dotted name."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Record numbers of an optimiser step, which may be no finite ones; steps rise."""

    def text(self, tag: str, text: str, step: int = 0) -> None:
        """Show a text: a warning, which is of step 0, or what a step brought."""

    def flush(self) -> None:
        """Hand over what was recorded so far; a checkpoint follows."""

    def finish(self) -> None:
        """End the run; also called where the training failed."""


@dataclass(frozen=True)
class Tracked:
    """The run that a tracker is made for.

    Attributes:
        folder: of one network, such as ``RUN/oreo``; a service that names runs itself keeps the name here, so that
            a run that goes on stays one.
        resume_step: the step that it continues from, 0 for a new run; what was logged after it is logged again.
    """

    folder: Path
    resume_step: int = 0

    @property
    def name(self) -> str:
        """The last two parts of the folder, such as ``2026-01-01_12-00-00/oreo``."""
        return "/".join(self.folder.resolve().parts[-2:])

    def kept_id(self, service: str, make: Callable[[], str]) -> str:
        """Return the service's name of the run, made when it is first asked for."""
        file = self.folder / f"{service}-run.json"
        if self.resume_step and file.exists():
            return str(json.loads(file.read_text(encoding="utf-8"))["id"])
        found = make()
        write_text(file, json.dumps({"id": found}) + "\n")
        return found


class TensorBoard:
    """Event files in the folder of the run; a run that continues drops the events of later steps."""

    def __init__(self, run: Tracked) -> None:
        """Open the file."""
        from torch.utils.tensorboard import SummaryWriter

        self._board = SummaryWriter(str(run.folder), purge_step=run.resume_step + 1)

    def start(self, settings: Mapping[str, Any]) -> None:
        """Nothing: the file is open."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve."""
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def text(self, tag: str, text: str, step: int = 0) -> None:
        """Show a text in the tab TEXT."""
        # A run that continues drops the events of later steps, and a warning, of step 0, is given only once.
        self._board.add_text(tag, _fenced(text), step)
        self._board.flush()

    def flush(self) -> None:
        """Hand the events so far to the operating system."""
        self._board.flush()

    def finish(self) -> None:
        """Close the file."""
        self._board.close()


class Wandb:
    """Weights & Biases, as its own settings say: ``wandb login``, ``WANDB_PROJECT``, ``WANDB_MODE=offline``."""

    def __init__(self, run: Tracked) -> None:
        """Import it."""
        self._wandb, self._of = _library("wandb"), run

    def start(self, settings: Mapping[str, Any]) -> None:
        """Begin or resume the run."""
        own = self._of.kept_id("wandb", lambda: uuid4().hex[:8])
        project = None if environ.get("WANDB_PROJECT") else "oreo"
        kept = {"dir": str(self._of.folder), "config": dict(settings), "name": self._of.name}
        self._run = self._wandb.init(project=project, id=own, resume="allow", reinit="create_new", **kept)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log them."""
        self._run.log(dict(values), step=step)

    def text(self, tag: str, text: str, step: int = 0) -> None:
        """Show it in the panel of its tag, beside the next numbers; nothing in it is read as HTML."""
        self._run.log({tag: self._wandb.Html(f"<pre>{escape(text)}</pre>", inject=False)}, commit=False)

    def flush(self) -> None:
        """Nothing: it sends what it has by itself."""

    def finish(self) -> None:
        """Send what is left."""
        self._run.finish()


class Trackio:
    """Trackio, on this machine unless its own settings say otherwise: ``TRACKIO_DIR``, ``TRACKIO_SPACE_ID``."""

    def __init__(self, run: Tracked) -> None:
        """Import it."""
        self._trackio, self._of = _library("trackio"), run

    def start(self, settings: Mapping[str, Any]) -> None:
        """Begin or resume the run."""
        name = self._of.kept_id("trackio", lambda: self._of.name)
        project = environ.get("TRACKIO_PROJECT") or "oreo"
        self._run = self._trackio.init(project=project, name=name, config=dict(settings), resume="allow", embed=False)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log them."""
        self._run.log(dict(values), step=step)

    def text(self, tag: str, text: str, step: int = 0) -> None:
        """Log it as Markdown in which nothing is marked up."""
        self._run.log({tag: self._trackio.Markdown(_fenced(text))}, step=step)

    def flush(self) -> None:
        """Nothing: it writes in the background."""

    def finish(self) -> None:
        """Write what is left."""
        self._run.finish()


class Mlflow:
    """MLflow, where its own settings say: ``MLFLOW_TRACKING_URI``, ``MLFLOW_EXPERIMENT_NAME``."""

    def __init__(self, run: Tracked) -> None:
        """Import it."""
        self._mlflow, self._of = _library("mlflow"), run

    def start(self, settings: Mapping[str, Any]) -> None:
        """Begin the run, or open it again; what an entry of a parameter cannot hold is cut."""
        self._client = self._mlflow.MlflowClient()
        self._id = self._of.kept_id("mlflow", self._create)
        self._client.update_run(self._id, status="RUNNING")
        known = self._client.get_run(self._id).data.params
        params = [
            self._mlflow.entities.Param(_plain(name), str(value)[:500])
            for name, value in settings.items()
            if _plain(name) not in known
        ]
        for start in range(0, len(params), 100):
            self._client.log_batch(self._id, params=params[start : start + 100])
        self._texts = 0

    def _create(self) -> str:
        name = environ.get("MLFLOW_EXPERIMENT_NAME") or "oreo"
        found = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if found is None else found.experiment_id
        return str(self._client.create_run(experiment, run_name=self._of.name).info.run_id)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log those that are finite."""
        now = int(time() * 1000)
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        metrics = [self._mlflow.entities.Metric(_plain(name), value, now, step) for name, value in finite.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def text(self, tag: str, text: str, step: int = 0) -> None:
        """Keep it as an artifact."""
        self._texts += 1
        self._client.log_text(self._id, text, f"{_plain(tag)}/{step}-{self._of.resume_step}-{self._texts}.txt")

    def flush(self) -> None:
        """Nothing: every call is written at once."""

    def finish(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._id)


TRACKERS: dict[str, Callable[[Tracked], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "trackio": Trackio,
    "mlflow": Mlflow,
}
"""By the name that ``tracker=`` takes; another package may add its own."""


def tracker_names(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the names among ``TRACKERS`` that a setting gives: one, a list, or none.

    Raises:
        ValueError: there is no such tracker.
    """
    if given is None or given == "none":
        return ()
    names = (given,) if isinstance(given, str) else tuple(given)
    for name in names:
        if name not in TRACKERS:
            known = ", ".join(TRACKERS)
            raise ValueError(f"tracker: there is no {name!r}; give some of {known}, such as [{known}], or none")
    return tuple(dict.fromkeys(names))


def require_trackers(names: Sequence[str]) -> None:
    """Refuse trackers whose library is not here, before anything is computed.

    Raises:
        ValueError: with the line that installs it.
    """
    for name in names:
        if name in ("wandb", "trackio", "mlflow") and find_spec(name) is None:
            raise ValueError(_missing(name))


class Trackers:
    """Several trackers as one; one that fails is left out from then on, with a warning."""

    def __init__(self, names: Sequence[str], run: Tracked, settings: Mapping[str, Any]) -> None:
        """Start them.

        Raises:
            ValueError: a name or a library is not there.
        """
        require_trackers(names)
        self._running = {name: TRACKERS[name](run) for name in tracker_names(list(names))}
        flat = _flat(settings)
        self._each(lambda tracker: tracker.start(flat))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """See ``Tracker``."""
        self._each(lambda tracker: tracker.scalars(step, values))

    def text(self, tag: str, text: str, step: int = 0) -> None:
        """See ``Tracker``."""
        self._each(lambda tracker: tracker.text(tag, text, step))

    def flush(self) -> None:
        """See ``Tracker``."""
        self._each(lambda tracker: tracker.flush())

    def finish(self) -> None:
        """See ``Tracker``."""
        self._each(lambda tracker: tracker.finish())
        self._running = {}

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._running.items()):
            try:
                call(tracker)
            except Exception as error:  # a service may fail in any way, and hours of training must not end with it
                del self._running[name]
                _log.warning("tracker %s failed and is told nothing more of this run: %s", name, error)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"{_missing(name)} ({error})") from error


def _missing(name: str) -> str:
    return f'tracker={name} needs the library {name}, which is not installed: pip install "oreo-suite[{name}]"'


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by dotted name, what is no JSON scalar as text."""
    if isinstance(node, Mapping):
        return {name: leaf for key, child in node.items() for name, leaf in _flat(child, f"{prefix}{key}.").items()}
    return {prefix.removesuffix("."): node if isinstance(node, str | int | float | bool | None) else str(node)}


def _plain(name: str) -> str:
    """Write a name in the characters that MLflow takes."""
    return "".join(letter if letter.isalnum() or letter in "_-. /" else "_" for letter in name)


def _fenced(text: str) -> str:
    """Quote a text in Markdown so that nothing in it is read as markup."""
    fence = "`" * 3
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"
