"""The command ``oreo doctor``: what a checkpoint can do here, before anything is trained with it.

Knows: settings of networks, how a table is printed. Does not know: what is tried (``networks.capabilities``, and
``PromptFormat.capabilities`` for templates and tokens).
"""

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from oreo_agents.episodes.format_checks import format_capabilities
from oreo_agents.networks.adapters import Lora
from oreo_agents.networks.capabilities import adapter_capability, policy_capabilities, value_capabilities
from oreo_agents.networks.capability import Capability
from oreo_agents.networks.checkpoints import load_config
from oreo_agents.networks.network import Network
from oreo_agents.networks.policy import PolicySettings
from oreo_agents.networks.value import TokenValue, ValueSettings
from oreo_agents.progress import quiet
from oreo_agents.runs.building import build
from oreo_agents.runs.helps import DOCTOR
from oreo_agents.runs.jobs import settle_policy
from oreo_agents.runs.loading import Loader
from oreo_agents.runs.overrides import UserError, composed, readable
from oreo_agents.runs.run_folders import hydra_text, networks
from oreo_agents.terminal import Terminal

_WANTED = f"oreo doctor checks a checkpoint: give RUN/NAME or policy.path=FOLDER_OR_HUB_NAME\n\n{DOCTOR}"
_STYLES = {"ok": "green", "slow": "yellow", "refused": "red"}
_RANK = 4


def main(arguments: Sequence[str]) -> None:
    """Check a checkpoint.

    Raises:
        UserError: settings that cannot be read.
        SystemExit: with code 2 when something is refused.
    """
    parser = argparse.ArgumentParser(prog="oreo doctor", add_help=False)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_intermixed_args(arguments)
    if options.help:
        print(DOCTOR, end="")
        return
    overrides = _of_run(options.overrides)
    if not any(text.startswith("policy.path=") for text in overrides):
        raise UserError(_WANTED)
    quiet()
    config = composed("eval", ["policy=checkpoint", *readable(overrides)])
    settle_policy(config)
    if config.policy.path is None:
        raise UserError(_WANTED)
    found = examine(build(config.policy), build(config.value))
    if options.json:
        print(json.dumps([row._asdict() for row in found], indent=2, ensure_ascii=False))
    else:
        _print(found, config.policy.path)
    if any(row.status == "refused" for row in found):
        raise SystemExit(2)


def _of_run(overrides: Sequence[str]) -> list[str]:
    """Put the networks of RUN/NAME where it is given; they are taken as the run took them.

    Raises:
        UserError: the run holds several.
        FileNotFoundError: there is no such folder.
    """
    found: list[str] = []
    for text in overrides:
        if "=" in text or not Path(text).exists():
            found.append(text)
        elif (Path(text) / "config.json").is_file():
            found.append(f"policy.path={hydra_text(text)}")
        else:
            those = networks(Path(text))
            if len(those) > 1:
                names = ", ".join(each.name for each in those)
                raise UserError(f"{text} holds several policies: give RUN/NAME, NAME of {names}")
            found += [f"policy.path={hydra_text(those[0].policy)}"]
            found += [f"value.path={hydra_text(value)}" for value in [those[0].value] if value is not None]
    return found


def examine(policy: PolicySettings, value: ValueSettings) -> list[Capability]:
    """Try everything with the checkpoints that settings name."""
    assert policy.path is not None
    path = policy.path
    plain = Loader(dataclasses.replace(policy, lora=Lora()), dataclasses.replace(value, lora=Lora()))
    adapted = Loader(
        dataclasses.replace(policy, lora=_some(policy.lora)), dataclasses.replace(value, lora=_some(value.lora))
    )
    found = _tried("loading", lambda: _configured(path, policy.trust_remote_code))
    if found:
        return found
    found = _tried("template", lambda: format_capabilities(plain.prompt_format(path)))
    found += _tried("loading", lambda: policy_capabilities(plain.policy(path)))
    if any(row.status == "refused" for row in found if row.name in ("loading", "template")):
        return found

    def adapters(name: str, network: Callable[[], Network], load: Callable[[str], Network]) -> list[Capability]:
        tokenizer = plain.prompt_format(path).tokenizer
        return _tried(name, lambda: [adapter_capability(name, network(), load, tokenizer)])

    def new_value(loader: Loader) -> TokenValue:
        return TokenValue.from_policy(path, **loader.how(loader.value_settings))

    def trained_value(loader: Loader) -> TokenValue:
        return loader.value(str(value.path), path)

    make = new_value if value.path is None else trained_value
    found += adapters("adapters", lambda: adapted.policy(path), plain.policy)
    found += _tried("value: loading", lambda: value_capabilities(make(plain)))
    if found[-1].name != "value: loading":
        found += adapters("value: adapters", lambda: make(adapted), lambda saved: plain.value(saved, path))
    return found


def _configured(path: str, trust_remote_code: bool) -> list[Capability]:
    """Raise what is to be said of a checkpoint that is not there, once."""
    load_config(path, trust_remote_code=trust_remote_code)
    return []


def _some(lora: Lora) -> Lora:
    """Adapters as they are asked for, or a few where none are."""
    return lora if lora.rank else dataclasses.replace(lora, rank=_RANK)


def _tried(name: str, trial: Callable[[], list[Capability]]) -> list[Capability]:
    try:
        return trial()
    except ValueError as error:
        return [Capability(name, "refused", str(error))]


def _print(found: Sequence[Capability], path: str) -> None:
    table = Table(title=Text(f"What {path} can do"), show_lines=False, title_justify="left")
    table.add_column("")
    table.add_column("status")
    table.add_column("why", overflow="fold")
    for row in found:
        table.add_row(Text(row.name), Text(row.status, style=_STYLES[row.status]), Text(row.why))
    Terminal().print(table)
