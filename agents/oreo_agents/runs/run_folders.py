"""Run folders that are there: settings to evaluate one with.

Knows: which settings an evaluation takes from a run, Hydra's grammar. Does not know: how results are made.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from oreo_agents import plugins
from oreo_agents.evaluation.round_names import split_round
from oreo_agents.evaluation.run_settings import flatten, read_config, read_document
from oreo_agents.runs.building import require_named

# Taken over one by one; the environment, whose settings have any names, as a whole.
_TAKEN = ("policy", "value", "evaluate", "searches", "trainer", "seed")

# Of its environment: which tasks it learned from, and so which are left to choose by (``dev_tasks``).
_TASKS = ("sft.demonstrations", "sft.split", "collect.tasks", "collect.split")


@dataclass(frozen=True)
class Network:
    """A policy in a run folder.

    Attributes:
        name: of the algorithm.
        policy: folder.
        value: folder of the value network that its searches read; None: there is none.
    """

    name: str
    policy: str
    value: str | None


def run_of(folder: Path) -> Path:
    """Return the run folder of a folder that is one, or that holds a policy of one.

    Raises:
        FileNotFoundError: it is neither.
    """
    for run in (folder, folder.parent):
        if (run / "config.yaml").exists() and (run == folder or (folder / "policy").is_dir()):
            return run
    raise FileNotFoundError(
        f"{folder}: neither a run folder, which holds config.yaml, nor RUN/NAME with a policy of one; another "
        "checkpoint is given as policy.path=FOLDER_OR_HUB_NAME"
    )


def networks(folder: Path) -> list[Network]:
    """Return the trained policies of a run folder, or the one that RUN/NAME holds.

    Raises:
        FileNotFoundError: the run has none.
    """
    run = run_of(folder)
    names = [folder.name] if folder != run else sorted(path.parent.name for path in run.glob("*/policy"))
    if (run / "results.json").exists():
        results = read_document(run / "results.json")["results"]
        order = list(dict.fromkeys(row["algo"] for row in results))
        names.sort(key=lambda name: order.index(name) if name in order else len(order))
    if not names:
        raise FileNotFoundError(f"{run}: no NAME/policy there: nothing was trained to its end")
    lender = at(read_config(run / "config.yaml"), "evaluate.start_value")
    found = []
    for name in names:
        value = run / (str(lender) if name == "sft" and lender else name) / "value"
        found.append(Network(name, str(run / name / "policy"), str(value) if value.is_dir() else None))
    return found


def measured(config: DictConfig, given: Sequence[str]) -> list[Network]:
    """Return the networks of ``config.run``, with the value that the command line names in place of their own.

    Args:
        config: of the command.
        given: overrides of the command line.

    Raises:
        ValueError: the command line names a policy beside the run.
        FileNotFoundError: the run has none.
    """
    if any(text.startswith("policy.path=") for text in given):
        raise ValueError(f"{config.run} names what is measured, and so does policy.path: leave one of them out")
    found = networks(Path(config.run))
    if any(text.startswith("value.path=") for text in given):
        found = [replace(network, value=config.value.path) for network in found]
    return found


def evaluation_overrides(folder: Path, given: Sequence[str]) -> list[str]:
    """Return overrides that make ``oreo eval`` measure a run as it was measured when it was made.

    Args:
        folder: a run, or RUN/NAME.
        given: overrides of the command line, which come after and win.

    Raises:
        ValueError: the configuration of the run would have code run that the user has not named.
    """
    file = run_of(folder) / "config.yaml"
    config: Any = read_config(file)
    _require_no_code(config, file, given)
    require_named(config, str(file))
    if absent := [name for name in ("env", "policy") if not isinstance(config.get(name), Mapping)]:
        raise ValueError(f"{file}: no configuration of a run: it has no settings of {' and '.join(absent)}")
    tiny = config["policy"].get("path") is None
    overrides = [f"run={hydra_text(str(folder))}"]
    if not any(text.startswith("policy=") for text in given):
        overrides.append(f"policy={'tiny' if tiny else 'checkpoint'}")
    if not any(text.startswith("env=") for text in given):
        overrides += ["~env", f"++env={hydra_text(config['env'])}"]
        learned = flatten({key: config[key] for key in ("sft", "collect") if key in config})
        overrides += [f"++{name}={hydra_text(learned[name])}" for name in _TASKS if name in learned]
    for name, value in flatten({key: config[key] for key in _TAKEN if key in config}).items():
        # A server that a run asked may be gone.
        if not (tiny and name == "policy.path") and name != "value.url":
            overrides.append(f"++{name}={hydra_text(value)}")
    return overrides


def _require_no_code(config: Mapping[str, Any], file: Path, given: Sequence[str]) -> None:
    """Refuse a configuration that names code: a folder that came from elsewhere runs nothing that is not asked for.

    Raises:
        PluginError: by the file, with what to give.
    """
    module = str(at(config, "env.id") or "").rpartition(":")[0]
    names = [str(name) for name in config.get("imports") or ([module] if module else [])]
    if unnamed := [name for name in dict.fromkeys(names) if not plugins.is_named(name)]:
        flags = " ".join(f"--import {name}" for name in unnamed)
        raise plugins.PluginError(
            f"{file} asks for code that is no part of the suite; if you trust it, name it yourself: {flags}"
        )
    if module and not plugins.is_named(module):
        raise plugins.PluginError(f"{file}: env.id is of a module that nobody named: --import {module}")
    if at(config, "policy.trust_remote_code") and not any("policy.trust_remote_code=" in text for text in given):
        raise plugins.PluginError(
            f"{file} asks for the code that comes with a checkpoint; if you trust it, add policy.trust_remote_code=true"
        )


def at(config: Mapping[str, Any], key: str) -> Any:
    """Return what stands at a dotted key of a configuration; None: nothing."""
    found: Any = config
    for name in key.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def choose_value(config: DictConfig, given: Sequence[str]) -> None:
    """Name, in the configuration of ``what=value``, the networks of ``config.run``, their reference and beta.

    Args:
        config: changed.
        given: overrides of the command line, which win.

    Raises:
        ValueError: the run has no value network, or several.
    """
    from oreo_agents.runs.trained_from import reference_of

    folder = Path(config.run)
    run = run_of(folder)
    # The start is measured with the value that is lent to it where it is asked for by name.
    found = [each for each in measured(config, given) if each.value == str(run / each.name / "value") or folder != run]
    found = [each for each in found if each.value is not None]
    if len(found) != 1:
        names = ", ".join(each.name for each in found) or "none"
        raise ValueError(f"what=value measures one value network, and {folder} has {names}; give RUN/NAME")
    [network] = found
    config.policy.path, config.value.path = network.policy, network.value
    if config.reference.path is None:
        config.reference.path = reference_of(str(network.value))
    if config.reference.path is None and (run / "sft" / "policy").is_dir():
        config.reference.path = str(run / "sft" / "policy")
    name, _ = split_round(Path(str(network.value)).parent.name)
    trained = read_config(run / "config.yaml")
    beta = at(trained, f"algorithms.{name}.beta") or at(trained, "algo.beta")
    if beta is not None and not any(text.startswith("value_eval.beta=") for text in given):
        config.value_eval.beta = beta


def hydra_text(value: Any) -> str:
    """Write a value in Hydra's grammar."""
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{hydra_text(child)}' for key, child in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(map(hydra_text, value))}]"
    if isinstance(value, str):
        literal = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", value)  # a text, no reference
        return '"' + re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), literal) + '"'
    return json.dumps(value)
