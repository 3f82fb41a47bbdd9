"""The README of an exported data set: what its rows are, where they come from, what they may not be used for.

Knows: the metadata of the hub's data set cards, our columns. Does not know: files, how rows are made.
"""

import json
from collections.abc import Sequence

from huggingface_hub import DatasetCardData

from oreo_agents.episodes.held_out import find_held_out
from oreo_algos import EpisodeBuffer

FILE = "train.jsonl"
"""Name of the file of rows beside the card."""

_WHOLE = {
    "task_id": "the task; episodes of one task answer the same question or play the same game",
    "env_id": "the environment; `oreo/Chat-v0` is none",
    "success": "whether the task was solved",
    "rewards": "one an action",
    "action_spans": "message, start and end (in characters, exclusive) of each action, counted in all messages",
    "terminated": "the task ended it",
    "truncated": "a limit ended it",
    "info": "what else is known, as JSON",
}
_COLUMNS = {
    "messages": "the whole conversation; what the assistant says are the actions",
    "conversations": "the same in ShareGPT's form, `from` and `value`",
    "prompt": "what came before the first action",
    "completion": "what followed, with what an environment said in between",
    "label": "whether the task was solved",
    "chosen": "the preferred answer",
    "rejected": "the other one",
    "score_chosen": "its score, where it had one",
    "score_rejected": "that of the other one",
    "question": "what was asked",
    "response": "what was answered",
    "correct": "whether that was right",
    "source": "where the row comes from",
    **_WHOLE,
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_TRAINERS = {"trl-sft": "SFTTrainer", "trl-kto": "KTOTrainer", "trl-dpo": "DPOTrainer", "messages": "SFTTrainer"}


def dataset_card(
    name: str, buffer: EpisodeBuffer, layout: str, rows: int, columns: Sequence[str], lost: Sequence[str]
) -> str:
    """Return the text of a README.md.

    Args:
        name: of the data set.
        buffer: that was exported.
        layout: name of the format.
        rows: how many were written.
        columns: that they have.
        lost: sentences about what is not in them.
    """
    stats = buffer.stats()
    data = DatasetCardData(
        task_categories=["text-generation"],
        tags=["oreo-suite", "offline-reinforcement-learning", layout],
        size_categories=next((text for most, text in _SIZES if rows < most), "n>1M"),
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": FILE}]}],
    )
    told = {column: _COLUMNS.get(column, "") for column in columns}
    table = "\n".join(
        ["| column | what it is |", "|---|---|", *(f"| `{key}` | {text} |" for key, text in told.items())]
    )
    origin = (
        "\n".join(f"- {key}: `{_shown(value)}`" for key, value in buffer.provenance.items())
        or "Nothing is known of it."
    )
    trainer = f"and TRL's `{_TRAINERS[layout]}` takes it as it is" if layout in _TRAINERS else "and see the columns"
    again = f"`oreo data import {name}` makes episodes of it"
    return f"""---
{data.to_yaml()}
---
# {name}

{rows} rows in the format {layout}, made of {stats["episodes"]} episodes of {stats["tasks"]} tasks \
({", ".join(buffer.env_ids)}), {stats["success_rate"]:.1%} of them successful.

{table}

## Where it comes from

{origin}

## Not to be trained on

{_held_out(name, buffer)}

## What is left out

{_listed(lost) or "Nothing: an import gives the same episodes."}

## Use

`load_dataset("json", data_files="{FILE}")` reads it, {trainer}. {again}.

That loader keeps ten digits after the point where the messages of a column differ in their keys;
`Dataset.from_list([json.loads(line) for line in open("{FILE}", encoding="utf-8")])` keeps all.

## Licence

Not stated. That of the questions and of the model that answered them applies; say here which these are.
"""


def _held_out(name: str, buffer: EpisodeBuffer) -> str:
    found = find_held_out(name, buffer)
    if found:
        told = "; ".join(map(str, found))
        return f"**{told}.** A model that learned from these must not be measured on them."
    return "No episode is known to be of a task that is held out to measure with."


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
