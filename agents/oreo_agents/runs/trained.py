"""What a training leaves in its folder: networks with their cards, and last the summary that says that it is done.

Knows: names of folders and files. Does not know: stages, how it was trained.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.runs.cards import card_of
from oreo_agents.runs.layout import Layout
from oreo_agents.runs.run_data import Part, join
from oreo_agents.runs.settings import RunSettings
from oreo_agents.runs.trained_from import start_record
from oreo_algos import EpisodeBuffer, Models
from oreo_algos.algos import Algorithm
from oreo_algos.storage.atomic import replace_folder, write_text
from oreo_algos.storage.checkpoint import remove_checkpoints
from oreo_algos.training.settings import TrainResult

_PARTS: tuple[Literal["policy", "value"], ...] = ("policy", "value")


def is_done(folder: Path) -> bool:
    """Say whether the training in a folder is done; checkpoints that a kill left there then go."""
    if done := (folder / "summary.json").exists():
        remove_checkpoints(folder)
    return done


def require_same_episodes(folder: Path, parts: Sequence[Part]) -> None:
    """Refuse data that is no longer what the training in a folder, which is done, learned from.

    Raises:
        ValueError: it is not.
    """
    before = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    now = join(parts)
    if before.get("identity") not in (None, now.identity):
        given = ", ".join(f"data={part.given}" for part in parts if part.given)
        raise ValueError(
            f"{folder} learned from other episodes ({before['episodes']}) than there are now in {given} ({len(now)}); "
            "put these back, choose another hydra.run.dir, or delete the folder to train again"
        )


@dataclasses.dataclass(frozen=True)
class Trained:
    """A training that has ended.

    Attributes:
        algorithm: that trained.
        models: whole.
        parts: what was learned from.
        buffer: all of it.
        result: of the training.
        starts: paths of what the networks began with, by name; None: no such network, or a new one.
    """

    algorithm: Algorithm[Any]
    models: Models
    parts: Sequence[Part]
    buffer: EpisodeBuffer
    result: TrainResult
    starts: Mapping[str, str | None]

    def save(self, folder: Path, settings: RunSettings, layout: Layout, prompt_format: PromptFormat) -> None:
        """Write it.

        Args:
            folder: to write to.
            settings: of the run.
            layout: of the run.
            prompt_format: of the policy that it began with.
        """
        for part in _PARTS:
            network: Any = getattr(self.models, part)
            if network is not None:
                card = card_of(part, self.algorithm, settings, self.parts, self.buffer, prompt_format)
                with replace_folder(folder / part) as temporary:
                    network.save(temporary, prompt_format.tokenizer, card)
        summary = dataclasses.asdict(self.result) | {
            **{name: path if path is None else layout.name(path) for name, path in self.starts.items()},
            "episodes": len(self.buffer),
            "identity": self.buffer.identity,
            "buffers": [part.record() for part in self.parts],
            **start_record(folder.parent, layout.start),
        }
        write_text(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
        remove_checkpoints(folder)
