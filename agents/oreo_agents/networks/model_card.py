"""The README of a saved network: what it is, what it was trained on, how well it does, how to run it.

Knows: the metadata of Hugging Face model cards (``model-index``). Does not know: the network, runs, folders of data.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import EvalResult, ModelCard, ModelCardData, metadata_load, try_to_load_from_cache
from huggingface_hub.utils import HFValidationError, validate_repo_id
from yaml import YAMLError

from oreo_algos.algos import Algorithm

_ROLES = {
    "policy": "Policy, a causal language model.",
    "value": "Value network, a token classifier with one label: its output at a token is V of the state just after it, "
    "the expected reward from there on.",
}
_PIPELINES = {"policy": "text-generation", "value": "token-classification"}
_NO_RESULTS = "Not evaluated yet.\n"


@dataclass(frozen=True)
class Base:
    """What a network was before: its name on the hub and its licence, None where nobody says; and that in words."""

    name: str | None
    licence: str | None
    words: str


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a card says.

    Attributes:
        part: which of the two networks.
        algorithm: that trained it.
        env_id: the environment's id.
        env_options: its options.
        seed: of the run.
        base: what training began with.
        data: what it learned from, in words.
        messages: of an opening that is written as those of the training; the last one asks.
        has_template: the tokenizer writes messages by a chat template; else they are lines.
        max_new_tokens: of an answer.
    """

    part: Literal["policy", "value"]
    algorithm: Algorithm[Any]
    env_id: str
    env_options: Mapping[str, Any] = field(default_factory=dict)
    seed: int
    base: Base
    data: str
    messages: Sequence[Mapping[str, str]]
    has_template: bool
    max_new_tokens: int = 256


def model_card(facts: CardFacts) -> str:
    """Return a card without results, which ``with_results`` adds."""
    name = type(facts.algorithm).__name__
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag=_PIPELINES[facts.part],
        base_model=facts.base.name,
        license=facts.base.licence,
        tags=["oreo-suite", "offline-reinforcement-learning", name.lower()],
    )
    own = {one.name: getattr(facts.algorithm, one.name) for one in dataclasses.fields(facts.algorithm)}
    default = {one.name: one.default for one in dataclasses.fields(facts.algorithm)}
    chosen = {key: value for key, value in own.items() if value != default[key]}
    licence = (
        f"{facts.base.licence}, that of the base model"
        if facts.base.licence
        else "not known; add `license:` above before you share it"
    )
    options = "".join(f"; {key}: {_cell(value)}" for key, value in facts.env_options.items())
    return f"""---
{data.to_yaml().strip()}
---

# {name}: {facts.part}

{_ROLES[facts.part]}

- Base model: {facts.base.words}
- Trained by: {name} of oreo-suite {version("oreo-suite")}, seed {facts.seed}
- Environment: `{facts.env_id}`{options}
- Data: {facts.data}
- Licence: {licence}

## Results

{_NO_RESULTS}
## Usage

```python
{_usage(facts)}
```

## Settings

Other than the defaults of {name}: {_listed(chosen) or "none"}.

<details><summary>All settings</summary>

{"".join(f"- {key}: {_cell(value)}{chr(10)}" for key, value in own.items())}
</details>
"""


def with_results(text: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a card with the results of these rows of ``results.json``, in place of those that it had.

    Args:
        text: of ``model_card``; any other card only gets the metadata.
        rows: evaluations of the network; none leaves the card as it is.

    Raises:
        ValueError: the metadata cannot be read.
    """
    if not rows:
        return text
    try:
        card = ModelCard(text, ignore_metadata_errors=True)
    except YAMLError as error:
        raise ValueError(f"the metadata at the top of the card is no YAML: {error}") from error
    data: Any = card.data
    data.model_name = str(rows[0]["algo"])
    data.eval_results = [_result(row) for row in rows]
    ranked = [row for row in rows if "margin" in row]
    answered = [row for row in rows if row not in ranked]
    table = ["| search | split | tasks | accuracy, % | 95% interval | tokens a task |", "|---|---|---:|---:|---:|---:|"]
    table = table if answered else []
    for row in answered:
        low, high = (100 * float(row[key]) for key in ("wilson_low", "wilson_high"))
        interval, tokens = f"{low:.1f} to {high:.1f}", f"{row['tokens_per_task']:.0f}"
        cells = [_searched(row), row["split"], row["n"], f"{100 * row['accuracy']:.1f}", interval, tokens]
        table.append(f"| {' | '.join(map(_cell, cells))} |")
    lost = sum(int(row.get("not_graded", 0)) for row in rows)
    table += ["", *_ranked(ranked)] if answered and ranked else _ranked(ranked)
    notes = f"\nIntervals: Wilson, over {'tasks' if answered else 'pairs'}, of this one seed."
    notes += f" {lost} answers could not be graded and are left out." if lost else ""
    section = "\n".join(table) + f"\n{notes}\n"
    body = re.sub(r"(?<=\n## Results\n\n).*?(?=\n## |\Z)", lambda _: section, card.text, count=1, flags=re.DOTALL)
    return f"---\n{card.data.to_yaml().strip()}\n---\n{body}"


def _ranked(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a table of held-out preference pairs."""
    if not rows:
        return []
    table = [
        "| held-out pairs | judged by | pairs | ranked right, % | 95% interval | margin |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        low, high = (100 * float(row[key]) for key in ("wilson_low", "wilson_high"))
        beta = "" if row.get("beta") is None else f" (beta {row['beta']:g})"
        accuracy, interval = f"{100 * row['accuracy']:.1f}", f"{low:.1f} to {high:.1f}"
        cells = [row["split"], _searched(row), row["n"], accuracy, interval, f"{row['margin']:.3g}{beta}"]
        table.append(f"| {' | '.join(map(_cell, cells))} |")
    return table


def base_of(path: str | None) -> Base:
    """Say what a checkpoint is, from its name and its own card.

    Args:
        path: a folder or a name on the hub; None: a small model of random weights.
    """
    if path is None:
        return Base(None, None, "none, a small model of random weights that was trained from scratch")
    folder = Path(path)
    if folder.exists():
        card = folder / "README.md"
        named, licence = _metadata(card) if card.is_file() else (None, None)
        words = f"a folder, `{folder.resolve().name}`" + (
            f", made from [{named}](https://hf.co/{named})" if named else ""
        )
        return Base(named, licence, words)
    cached = try_to_load_from_cache(path, "README.md")
    _, licence = _metadata(Path(cached)) if isinstance(cached, str) else (None, None)
    return Base(path, licence, f"[{path}](https://hf.co/{path})")


def _metadata(card: Path) -> tuple[str | None, str | None]:
    """Return the base model, where it is a name on the hub, and the licence that a card tells."""
    try:
        data = metadata_load(card) or {}
    except (ValueError, OSError, YAMLError):  # a README of something else
        return None, None
    base, licence = data.get("base_model"), data.get("license")
    try:
        validate_repo_id(base if isinstance(base, str) else "")
    except HFValidationError:
        base = None
    return base, licence if isinstance(licence, str) else None


def _result(row: Mapping[str, Any]) -> EvalResult:
    counted = {"n": row["n"], "correct": row["correct"], "low": row["wilson_low"], "high": row["wilson_high"]}
    return EvalResult(
        task_type="text-generation",
        dataset_type=row["env"],
        dataset_name=str(row["env"]).removeprefix("oreo/"),
        dataset_split=row["split"],
        dataset_args=dict(row.get("env_options") or {}) or None,
        metric_type="accuracy",
        metric_name=f"{'reward accuracy' if 'margin' in row else 'accuracy'}, {_searched(row)}",
        metric_value=row["accuracy"],
        metric_args={**counted, "confidence": 0.95, "interval": "Wilson", "seed": row["seed"]},
    )


def _searched(row: Mapping[str, Any]) -> str:
    size = f" of {row['size']}" if row.get("size") not in (None, "1") else ""
    value = f", by V of {row['value']}" if row.get("value") else ""
    other = f", answers of {row['algo']}" if row.get("value") not in (None, row["algo"]) else ""
    return f"{row['search']}{size}{value}{other}"


def _usage(facts: CardFacts) -> str:
    messages = [dict(message) for message in facts.messages]
    written = "".join(f"{message['content']}\n" for message in messages)
    if facts.has_template:
        write = "tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)"
        begin = f"messages = {messages!r}\ntext = {write}"
        encode = 'tokenizer(text, add_special_tokens=False, return_token_type_ids=False, return_tensors="pt")'
    else:
        begin = f"text = {written!r}"
        encode = 'tokenizer(text, return_token_type_ids=False, return_tensors="pt")'
    name = 'name = "."  # this folder, or its name on the hub\n'
    if facts.part == "policy":
        return (
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f"{name}tokenizer = AutoTokenizer.from_pretrained(name)\n"
            "model = AutoModelForCausalLM.from_pretrained(name)\n"
            f"{begin}\nprompt = {encode}\n"
            f"tokens = model.generate(**prompt, max_new_tokens={facts.max_new_tokens}, do_sample=False)\n"
            'print(tokenizer.decode(tokens[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))'
        )
    return (
        "import torch\nfrom transformers import AutoModelForTokenClassification, AutoTokenizer\n\n"
        f"{name}tokenizer = AutoTokenizer.from_pretrained(name)\n"
        "model = AutoModelForTokenClassification.from_pretrained(name)\n"
        f'{begin}\ntext += "3 + 4 = 7"  # an answer so far\ntokens = {encode}\n'
        "with torch.no_grad():\n    values = model(**tokens).logits[0, :, 0]\n"
        'for token, value in zip(tokens["input_ids"][0], values):\n'
        '    print(f"{value:+.3f} after {tokenizer.decode(token)!r}")'
    )


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={_cell(value)}" for key, value in settings.items())


def _cell(value: object) -> str:
    return re.sub(r"([|<`])", r"\\\1", " ".join(str(value).split()))
