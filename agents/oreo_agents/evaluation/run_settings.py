"""What a run was: the settings of its ``config.yaml`` that a row of its results depends on.

Knows: which stage of a run reads which settings, and that a checkpoint of another run is what that run's settings say.
Does not know: what a setting means, answers, tables.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath
from typing import Any

from oreo_agents.evaluation.round_names import split_round
from oreo_envs.limits import read_document as read_limited
from oreo_envs.limits import read_json, read_yaml

TRAINED = "trained.yaml"
"""In the folder of an evaluation: the configuration of the run that its checkpoint is of."""

_NAMES: dict[str, type | tuple[type, ...]] = {"algo": str, "search": str, "split": str, "seed": int}
_NUMBERS: dict[str, type | tuple[type, ...]] = {"env": str, "n": int, "correct": (int, float), "accuracy": (int, float)}
"""What each row of results has at least, and what is counted in it; of which kind."""

MOST_CONFIG_BYTES = 2**20
"""Largest configuration that is read; a large one of ours has some 10,000."""

# Settings of an environment that other settings take their defaults from: what became of them stands there.
_DEFAULTS = (
    *("demonstrations", "collection_tasks", "evaluation_tasks", "evaluation_splits", "searches"),
    *("max_new_tokens", "context"),
)

# Which rows there are, what is kept of a run and what it warns of: nothing that decides a row.
_NO_MATTER = (
    *(f"evaluate.{name}" for name in ("splits", "searches", "value_searches", "budget", "tau", "start_value", "keep")),
    *("evaluate.pairs.data", "evaluate.pairs.beta"),  # rows of pairs say both
    *(f"trainer.{name}" for name in ("checkpoint_every", "keep_checkpoints", "doctor", "tracker")),
    *(f"env.{name}" for name in _DEFAULTS),
    *("iteration.rounds", "value.url"),
)

# By the first part of their names: what decides a start, what is learned from it, and an evaluation.
_OF_START = ("env", "policy", "sft", "trainer")
_OF_TRAINING = (*_OF_START, "collect", "data", "value")
_OF_EVALUATION = ("env", "policy", "evaluate")
_OF_PROMPT = tuple(f"policy.{name}" for name in ("chat_template", "chat_template_kwargs", "system_prompt", "thoughts"))

# Settings of searches that a budget decides.
_SIZES = frozenset({"samples", "keep", "expand", "actions"})

# Groups of settings that are an algorithm's own: one of another algorithm is another thing.
_OWN = ("algo", "value_of", "network")


def read_document(path: Path, *, counted: bool = False) -> dict[str, Any]:
    """Read a ``results.json``.

    Args:
        path: of the file.
        counted: whether its rows are to say what was counted too.

    Raises:
        ValueError: it is damaged.
    """
    try:
        document = read_json(read_limited(path))
        for row in [*document["results"], *document.get("pairs", ())]:
            for name, kind in (_NAMES | (_NUMBERS if counted else {})).items():
                if not isinstance(row[name], kind) or row[name] != row[name]:
                    raise ValueError(f"{name} is {row[name]!r:.80}")
        for name in ("training", "skipped"):
            if not isinstance(document.get(name) or {}, dict):
                raise ValueError(f"{name} is {document[name]!r:.80}")
        if not all(isinstance(summary, dict) for summary in (document.get("training") or {}).values()):
            raise ValueError("training has an entry that is no summary")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: no results that can be read ({type(error).__name__}: {error}); the command that made this run "
            "writes them again"
        ) from error
    found: dict[str, Any] = document
    return found


def load_held_out(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return what the networks of a run learned of held-out tasks, by name, see ``held_out.HeldOutFound``."""
    training = read_document(path).get("training") or {}
    found = {
        name: [part["held_out"] for part in summary.get("buffers") or () if part.get("held_out")]
        for name, summary in training.items()
    }
    return {name: parts for name, parts in found.items() if parts}


def load_skipped(path: Path) -> dict[str, str]:
    """Return the algorithms that a run left out, and why."""
    return dict(read_document(path).get("skipped", {}))


@dataclass(frozen=True)
class RowSettings:
    """What a row of results depends on.

    Attributes:
        values: by dotted name; the algorithm's own settings are ``algo.NAME``.
        seed: that the network was trained with; where nothing tells, that of the evaluation.
        whole: a configuration was there, so that a setting it lacks has its default.
    """

    values: Mapping[str, Any]
    seed: int
    whole: bool

    def knows(self, group: str) -> bool:
        """Whether a setting of this group that is not there has its default; results tell all of an environment."""
        return self.whole or group == "env"


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by dotted name; an empty mapping has none."""
    if not isinstance(node, Mapping):
        return {prefix.removesuffix("."): node}
    return {name: leaf for key, child in node.items() for name, leaf in flatten(child, f"{prefix}{key}.").items()}


def under(name: str, prefix: str) -> bool:
    """Whether a dotted name is a prefix or lies below it; the prefix may leave out ``algo.``."""
    return any(name == start or name.startswith(f"{start}.") for start in (prefix, f"algo.{prefix}"))


def row_settings(folder: Path, row: Mapping[str, Any]) -> RowSettings:
    """Return what a row of the results in a run folder depends on.

    Args:
        folder: of the run; records of earlier releases may lack ``config.yaml``.
        row: of ``results.json``.
    """
    path = folder / "config.yaml"
    if not path.exists():
        own = flatten(row.get("settings") or {}, "algo.")
        options = flatten(row.get("env_options") or {}, "env.options.")
        return RowSettings(options | own, int(row["seed"]), whole=False)
    config = read_config(path)
    if "algo" in config or "algorithms" in config:
        values, seed = _of_training(config, row["algo"], row), int(row["seed"])
    else:
        values, seed = _of_checkpoint(folder, config, row)
    searched = flatten(config.get("searches", {}).get(row["search"], {}), f"searches.{row['search']}.")
    if row.get("budget") is not None:
        searched = {name: value for name, value in searched.items() if name.rpartition(".")[2] not in _SIZES}
    if row.get("tau_of") is not None:
        # Which of them it was is a result of each run, not a setting in which two of them differ.
        searched[f"searches.{row['search']}.tau"] = f"best of {row['tau_of']} on {row['tau_on']}"
    if row.get("value") is not None:
        values |= {"value_of": row["value"]}
    return RowSettings(_telling(values | searched), seed, whole=True)


def read_config(path: Path) -> Mapping[str, Any]:
    """Read the ``config.yaml`` of a run, whoever made it, as data: references in it are looked up by nobody.

    Raises:
        ValueError: it is none that we write: damaged, larger than any of ours, or with YAML's aliases, which let a few
            lines stand for any number.
    """
    if (size := path.stat().st_size) > MOST_CONFIG_BYTES:
        raise ValueError(f"{path}: {size} bytes are no configuration of a run (at most {MOST_CONFIG_BYTES})")
    try:
        return _parsed(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: no configuration of a run that can be read: {error!s:.300}") from None


@cache
def _parsed(text: str) -> Mapping[str, Any]:
    """Return a configuration; of a sweep's many rows each file is parsed once."""
    found = read_yaml(text, aliases=False) or {}
    if not isinstance(found, dict):
        raise ValueError(f"it holds no settings but a {type(found).__name__}")
    return found


# Of evaluations on the way: they decide a row where they decide what a training ends with.
_ON_THE_WAY = (
    *("evaluate.dev", "trainer.evaluate_every", "trainer.eval_on_start"),
    *("trainer.load_best_model_at_end", "trainer.early_stopping_patience"),
)


def _telling(values: Mapping[str, Any]) -> dict[str, Any]:
    if not values.get("trainer.load_best_model_at_end") and values.get("trainer.early_stopping_patience") is None:
        values = {name: value for name, value in values.items() if not any(under(name, one) for one in _ON_THE_WAY)}
    values = {name: value for name, value in values.items() if not under(name, "evaluate.dev.examples")}
    return {name: value for name, value in values.items() if not any(under(name, none) for none in _NO_MATTER)}


def _parts(config: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return flatten({name: config[name] for name in names if name in config})


def _of_training(config: Mapping[str, Any], name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the network ``name`` of a run, and the value that a search reads, come from."""
    evaluated = _parts(config, ("evaluate",)) | {"network": name}
    # A value that chooses among answers of the start is what was learned.
    learned = name if row.get("value") in (None, name) else row["value"]
    algorithm, number = split_round(learned)
    own = config.get("algo") or (config.get("algorithms") or {}).get(algorithm)
    if own is None:
        return _parts(config, _OF_START) | evaluated
    iteration = _parts(config, ("iteration",)) if number > 1 else {}
    return _parts(config, _OF_TRAINING) | iteration | flatten(own, "algo.") | evaluated


def _of_checkpoint(folder: Path, config: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Return the settings of an evaluation, and of the run that its checkpoint is of where that can be told."""
    now = _parts(config, _OF_EVALUATION)
    path = (config.get("policy") or {}).get("path")
    value: dict[str, Any] = {"value.path": (config.get("value") or {}).get("path")} if row.get("value") else {}
    # `oreo eval RUN` names the run, or a folder in it, `policy.path` RUN/NAME/policy.
    given: str = config.get("run") or path or ""
    places = [Path(given), *Path(given).parents[:2]] if given else []
    found = [file for file in (folder / TRAINED, *(place / "config.yaml" for place in places)) if file.exists()]
    if not found:
        return now | value, int(row["seed"])
    trained = read_config(found[0])
    name = row["algo"] if config.get("run") else Path(given).parent.name
    before = _of_training(trained, name, row)
    if value.get("value.path") and places and Path(value["value.path"]).parent.parent == places[-1]:
        value = {}
    changed = {f"trained.{key}": old for key, old in before.items() if key.startswith("env.") and now.get(key) != old}
    kept = {key: old for key, old in before.items() if not _is_asked(key)}
    now = {key: new for key, new in now.items() if _is_asked(key)}
    return kept | changed | now | value, int(trained.get("seed", row["seed"]))


def _is_asked(name: str) -> bool:
    """Whether a setting is one of the questions and their wording, which an evaluation may change."""
    return name.startswith(("env.", "evaluate.")) or any(under(name, prompt) for prompt in _OF_PROMPT)


def differing(rows: Sequence[tuple[str, RowSettings]]) -> list[str]:
    """Return the names of settings in which rows differ, in the order in which they first appear.

    An algorithm's own settings are held against those of other rows of its name, all others against those of all rows
    that depend on settings of that group.

    Args:
        rows: name of the algorithm and settings, each.
    """
    found: dict[str, None] = {}
    groups: dict[tuple[str, str], list[RowSettings]] = {}
    for algo, settings in rows:
        known = {_group(name) for name in settings.values} | ({"env"} if settings.knows("env") else set())
        for group in known:
            groups.setdefault((algo if group in _OWN else "", group), []).append(settings)
    for (_, group), several in groups.items():
        names = dict.fromkeys(name for one in several for name in one.values if _group(name) == group)
        for name in names:
            # What is null is as if it were not there.
            values = {repr(one.values.get(name)) for one in several if name in one.values or one.knows(group)}
            if len(values) > 1:
                found[name] = None
    order = dict.fromkeys(name for _, settings in rows for name in settings.values)
    return [name for name in order if name in found]


def _group(name: str) -> str:
    """Return what a row must depend on for a missing setting of this name to say something."""
    first, _, rest = name.partition(".")
    if name == "value.path":
        return name
    return f"{first}.{rest.partition('.')[0]}" if first == "searches" else first


def written(name: str, value: Any, others: Iterable[Any] = ()) -> str:
    """Write a setting as the command line reads it; of paths, as much of the end as tells them apart."""
    if isinstance(value, str) and "/" in value:
        paths = {other for other in others if isinstance(other, str)} | {value}
        depth = next(k for k in range(1, 99) if len({PurePath(path).parts[-k:] for path in paths}) == len(paths))
        value = str(PurePath(*PurePath(value).parts[-depth:]))
    if isinstance(value, list):
        value = f"[{','.join(map(str, value))}]"
    if value is None or isinstance(value, bool):
        value = {None: "null", True: "true", False: "false"}[value]
    return f"{name.removeprefix('algo.')}={value}"
