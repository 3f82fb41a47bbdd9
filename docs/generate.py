"""The pages of `docs/reference/` that are written from the code: `python docs/generate.py`; `make docs` does it first.

Knows: which pages there are, how their tables look. Does not know: what a setting means; that its docstring says.
"""

import argparse
import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import oreo_envs
from oreo_agents.runs.described import Setting, fields_of, first_sentence, options_of
from oreo_agents.runs.helps import GROUPS, PLAIN, find, rows
from oreo_agents.runs.overrides import config_folder
from oreo_algos import Episode
from oreo_algos.storage.parquet import METADATA, SCHEMA

FOLDER = Path(__file__).resolve().parent / "reference"
NOTE = "<!-- Written by docs/generate.py from the code: change the docstrings, not this page. -->\n"


def settings() -> Iterator[str]:
    """Yield the lines of the page of settings."""
    yield "# Settings\n"
    yield NOTE
    yield (
        "Every setting of `oreo run | train | sft | collect | eval`, in groups. It is given as `KEY=VALUE`; the "
        "default is that of the small model on the default task (`oreo COMMAND --cfg job` prints what a command "
        "line makes of all of them), and *checkpoint* is the default with `policy.path=...` where that is another. "
        "**+** before a name: no file names it, so it is given as `+KEY=VALUE`. `oreo COMMAND --help GROUP` prints "
        "the same in a terminal.\n"
    )
    run, evaluation, large = _composed("run"), _composed("eval"), _composed("run", *_LARGE)
    yield "## No group\n"
    alone = (run, evaluation, _composed("collect"))
    yield from _table([Setting(f"`{name}`", "", *_plain(name, *alone)) for name in PLAIN])
    for name in ("env", "policy", "value", "sft", "collect", "iteration", "evaluate", "trainer"):
        yield f"## {name}\n"
        yield f"{_sentence(GROUPS[name])} Class `{run[name]['_target_']}`.\n"
        if name == "env":
            yield "Options of an environment (`env.options.NAME`) are on [a page of their own](environments.md).\n"
        yield from _table(_beside(run, large, name))
    yield "## value_eval\n"
    yield f"{_sentence(GROUPS['value_eval'])} Of `oreo eval` alone.\n"
    yield from _table(list(map(_shown, rows(evaluation, "value_eval"))))
    yield "## searches\n"
    yield f"{_sentence(GROUPS['searches'])} `+search@searches.NAME=FILE` adds one under another name.\n"
    for name, node in run["searches"].items():
        yield f"### {name}\n"
        yield f"{first_sentence(find(node['_target_']))}\n"
        yield from _table(list(map(_shown, rows(run, f"searches.{name}"))))
    yield "## algo\n"
    yield (
        "`algo.NAME` in `oreo train`, `algorithms.ALGORITHM.NAME` in `oreo run`. The default is the paper's, or "
        "ours where it has none; *small model* is what `configs/recipe` sets for a policy from random weights.\n"
    )
    for path in sorted((config_folder() / "algo").glob("*.yaml")):
        paper, tiny = (config["algorithms"].get(path.stem) for config in (large, run))
        if tiny is None:
            paper, tiny = (_composed("train", f"algo={path.stem}", *given)["algo"] for given in (_LARGE, ()))
        yield f"### {path.stem}\n"
        yield f"{first_sentence(find(tiny['_target_']))}\n"
        yield from _table(_beside(*({"algo": node} for node in (paper, tiny)), "algo"), "small model")


def environments() -> Iterator[str]:
    """Yield the lines of the page of environments."""
    yield "# Environments and their options\n"
    yield NOTE
    yield (
        "Options are arguments of `gym.make(ID, NAME=VALUE)`, and `env.options.NAME=VALUE` on the command line "
        "(`+env.options.NAME=VALUE` where the file of `configs/env` does not name it). What all environments share: "
        "actions and observations are text; the reward is 1.0 for a task that is solved, else 0.0, unless its page "
        "says otherwise.\n"
    )
    shared = {each.name for each in options_of(oreo_envs.TextEnv)} - {"split", "max_steps", "max_chars"}
    for env_id, entry_point in oreo_envs._ENTRY_POINTS.items():
        module, _, name = entry_point.partition(":")
        environment = getattr(import_module(module), name)
        files = [path.stem for path in (config_folder() / "env").glob("*.yaml") if _id(path.stem) == env_id]
        yield f"## {env_id}\n"
        yield f"{first_sentence(environment)}\n"
        yield f"Splits {', '.join(f'`{each}`' for each in environment.splits)}; held out, never learned from: " + (
            f"{', '.join(f'`{each}`' for each in environment.held_out_splits)}. "
            f"On the command line {', '.join(f'`env={each}`' for each in sorted(files))}.\n"
        )
        yield from _table([_code(each) for each in options_of(environment) if each.name not in shared])
    yield "## All of them\n"
    yield from _table([_code(each) for each in options_of(oreo_envs.TextEnv) if each.name in shared])


def episodes() -> Iterator[str]:
    """Yield the lines of the page of episodes."""
    yield "# Episodes\n"
    yield NOTE
    yield (
        "An episode buffer is a folder: `part-00000.parquet`, `part-00001.parquet`, ... with a row for each "
        f"episode, and `{METADATA}` with the fingerprint of the tokenizer, a hash of the content and where the "
        "episodes come from. `oreo_algos.EpisodeBuffer.load(FOLDER)` reads it, and so does anything that reads "
        "Parquet. Files `ref-*.parquet` beside them hold log-probabilities of the reference, which are computed "
        "once; `oreo data stats FOLDER` describes a buffer.\n"
    )
    yield "T tokens, K actions. A column may be null where the description says None or null.\n"
    texts = {each.name: each.text for each in fields_of(Episode)}
    named = {each.name for each in fields(Episode)}
    yield "| column | Parquet | what |"
    yield "|---|---|---|"
    for column in SCHEMA:
        kind = str(column.type).replace("element: ", "").replace("|", "\\|")
        yield f"| `{column.name}` | `{kind}` | {_cell(texts[column.name])} |"
    assert named == {column.name for column in SCHEMA}
    yield ""
    yield "`info` is JSON in its column: `success`, `answer`, `seed`, `policy`, `source`, and what environments add.\n"


API = {
    "envs": ("oreo_envs", "oreo_envs.answers:AnswerEnv Item", "oreo_envs.grading", "oreo_envs.prompts:PromptTemplate"),
    "algos": (
        "oreo_algos",
        "oreo_algos.algos",
        "oreo_algos.algos.base:EpisodeAlgorithm score token_log_ratio transcript_log_ratio",
        "oreo_algos.losses",
        "oreo_algos.segments:regroup sum_by_step step_values reward_to_go",
    ),
    "agents": (
        "oreo_agents",
        "oreo_agents.search",
        "oreo_agents.runs.settings:RunSettings",
        "oreo_agents.runs.pipeline:Run",
        "oreo_agents.runs.data:import_solutions encode_buffer",
        "oreo_agents.networks.tiny:TinyConfig create_checkpoint byte_tokenizer",
    ),
}
"""Pages of public names: modules, with all that they export or the names after the colon."""


def api(page: str) -> Iterator[str]:
    """Yield the lines of a page of public names."""
    yield f"# oreo_{page}\n"
    yield NOTE
    for entry in API[page]:
        module, _, names = entry.partition(":")
        found = import_module(module)
        yield f"## {module}\n"
        yield f"{first_sentence(found)}\n"
        for name in names.split() or found.__all__:
            if at_home(found, name):
                yield f"::: {module}.{name}\n"


def at_home(module: ModuleType, name: str) -> bool:
    """Whether a public name is of the package that the module belongs to, and no module itself."""
    thing = getattr(module, name)
    package = module.__name__.partition(".")[0]
    return not inspect.ismodule(thing) and getattr(thing, "__module__", package).partition(".")[0] == package


PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "settings.md": settings,
    "environments.md": environments,
    "episodes.md": episodes,
    **{f"api/{page}.md": partial(api, page) for page in API},
}


_LARGE = ("policy=checkpoint", "policy.path=FOLDER")


def _composed(command: str, *overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return OmegaConf.to_container(compose(command, list(overrides)), resolve=True)


def _id(name: str) -> str:
    """Return the id of an environment's file, or of the file that it builds on; "" where it names none."""
    node = OmegaConf.load(config_folder() / "env" / f"{name}.yaml")
    return node.get("id") or (_id(node.defaults[0]) if "defaults" in node else "")


def _plain(name: str, *configs: dict[str, Any]) -> tuple[str, str]:
    node = next(config for config in configs if name.partition(".")[0] in config)
    [row] = rows(node, name)
    return f"`{row.default}`", row.text


def _beside(config: dict[str, Any], other: dict[str, Any], group: str) -> list[tuple[Setting, str]]:
    """Return the settings of a group, each with the default of another configuration where that differs."""
    others = {row.name.lstrip("+"): row.default for row in rows(other, group) if ".tiny." not in row.name}
    here = {row.name.lstrip("+") for row in rows(config, group)}
    shown = [row for row in rows(config, group) if not row.name.lstrip("+").startswith("env.options.")]
    shown += [row for row in rows(other, group) if row.name.lstrip("+") not in here and group != "env"]
    return [
        (
            _shown(row),
            f"`{others[name]}`" if others.get(name := row.name.lstrip("+"), row.default) != row.default else "",
        )
        for row in shown
    ]


def _shown(row: Setting) -> Setting:
    name = row.name.lstrip("+")
    return Setting(f"{'**+** ' if name != row.name else ''}`{name}`", row.kind, f"`{row.default}`", row.text)


def _code(row: Setting) -> Setting:
    return Setting(f"`{row.name}`", row.kind, f"`{row.default}`" if row.default else "", row.text)


def _table(found: list[Setting] | list[tuple[Setting, str]], other: str = "checkpoint") -> Iterator[str]:
    pairs = [each if isinstance(each, tuple) else (each, "") for each in found]
    if not pairs:
        yield "No settings.\n"
        return
    columns = {
        "setting": [row.name for row, _ in pairs],
        "type": [_cell(row.kind) for row, _ in pairs],
        "default": [row.default for row, _ in pairs],
        other: [text for _, text in pairs],
        "what": [_cell(row.text) for row, _ in pairs],
    }
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for cells in zip(*columns.values(), strict=True):
        yield f"| {' | '.join(cells)} |"
    yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;") if "`" not in text else text.replace("|", "\\|")


def _sentence(text: str) -> str:
    """Write what a group is, settings as code."""
    words = [
        f"`{word.rstrip(',;:')}`{word[len(word.rstrip(',;:')) :]}" if "=" in word else word for word in text.split()
    ]
    text = " ".join(words)
    return f"{text[0].upper()}{text[1:]}."


def main() -> None:
    """Write the pages, or say which are not as the code has them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a page is out of date")
    check = parser.parse_args().check
    old = []
    for name, lines in PAGES.items():
        text = "\n".join(lines()).rstrip() + "\n"
        path = FOLDER / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            old.append(name)
            if not check:
                path.write_text(text, encoding="utf-8")
    if check and old:
        raise SystemExit(f"{', '.join(old)}: not as the code has it; run python docs/generate.py")


if __name__ == "__main__":
    main()
