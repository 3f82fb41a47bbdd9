"""Run folders that are there: settings to evaluate one with, and the joint report of those of a sweep.

Knows: which settings an evaluation takes from a run, Hydra's grammar. Does not know: how results are made.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from oreo_agents.evaluation.round_names import split_round
from oreo_agents.evaluation.run_settings import flatten, read_document

# Taken over one by one; the environment, whose settings have any names, as a whole.
_TAKEN = ("policy", "value", "evaluate", "searches", "trainer", "seed")


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
    lender = OmegaConf.select(OmegaConf.load(run / "config.yaml"), "evaluate.start_value")
    found = []
    for name in names:
        value = run / (str(lender) if name == "sft" and lender else name) / "value"
        found.append(Network(name, str(run / name / "policy"), str(value) if value.is_dir() else None))
    return found


def evaluation_overrides(folder: Path, given: Sequence[str]) -> list[str]:
    """Return overrides that make ``oreo eval`` measure a run as it was measured when it was made.

    Args:
        folder: a run, or RUN/NAME.
        given: overrides of the command line, which come after and win.
    """
    config: Any = OmegaConf.to_container(OmegaConf.load(run_of(folder) / "config.yaml"))
    tiny = config["policy"].get("path") is None
    overrides = [f"run={hydra_text(str(folder))}"]
    if not any(text.startswith("policy=") for text in given):
        overrides.append(f"policy={'tiny' if tiny else 'checkpoint'}")
    if not any(text.startswith("env=") for text in given):
        overrides += ["~env", f"++env={hydra_text(config['env'])}"]
    for name, value in flatten({key: config[key] for key in _TAKEN if key in config}).items():
        # A server that a run asked may be gone.
        if not (tiny and name == "policy.path") and name != "value.url":
            overrides.append(f"++{name}={hydra_text(value)}")
    return overrides


def run_imports(folder: Path) -> list[str]:
    """Return the modules that the run of a folder, see ``evaluation_overrides``, imported."""
    return list(OmegaConf.select(OmegaConf.load(run_of(folder) / "config.yaml"), "imports") or ())


def choose_value(config: DictConfig, given: Sequence[str]) -> None:
    """Name, in the configuration of ``what=value``, the networks of ``config.run``, their reference and beta.

    Args:
        config: changed.
        given: overrides of the command line, which win.

    Raises:
        ValueError: the run has no value network, or several.
    """
    folder = Path(config.run)
    run = run_of(folder)
    # The start is measured with the value that is lent to it where it is asked for by name.
    found = [each for each in networks(folder) if each.value == str(run / each.name / "value") or folder != run]
    found = [each for each in found if each.value is not None]
    if len(found) != 1:
        names = ", ".join(each.name for each in found) or "none"
        raise ValueError(f"what=value measures one value network, and {folder} has {names}; give RUN/NAME")
    [network] = found
    config.policy.path, config.value.path = network.policy, network.value
    if config.reference.path is None and (run / "sft" / "policy").is_dir():
        config.reference.path = str(run / "sft" / "policy")
    name, _ = split_round(Path(str(network.value)).parent.name)
    trained = OmegaConf.load(run / "config.yaml")
    beta = OmegaConf.select(trained, f"algorithms.{name}.beta") or OmegaConf.select(trained, "algo.beta")
    if beta is not None and not any(text.startswith("value_eval.beta=") for text in given):
        config.value_eval.beta = beta


def hydra_text(value: Any) -> str:
    """Write a value in Hydra's grammar."""
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{hydra_text(child)}' for key, child in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(map(hydra_text, value))}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return json.dumps(value)


class JointReport(Callback):
    """When the jobs of a sweep are done: one report on all of them."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Write it into the folder of the sweep, and print it; nothing for jobs without results."""
        from oreo_agents.evaluation.report import report

        folder = Path(config.hydra.sweep.dir)
        if any(folder.rglob("results.json")):
            report([folder], folder)
