"""The command ``oreo serve``: networks of checkpoints behind an OpenAI-compatible endpoint.

Knows: settings, sockets, signals, what is said at the start. Does not know: routes, how an answer is searched.
"""

import dataclasses
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gymnasium.envs.registration import load_env_creator, registry

import oreo_envs  # noqa: F401 (registers the ids)
from oreo_agents.evaluation.run_settings import read_config
from oreo_agents.networks.adapters import Lora
from oreo_agents.networks.policy import PolicySettings
from oreo_agents.networks.value import ValueSettings
from oreo_agents.progress import quiet
from oreo_agents.runs.building import build
from oreo_agents.runs.engines import Engines
from oreo_agents.runs.loading import Loader
from oreo_agents.runs.overrides import UserError, composed, readable
from oreo_agents.runs.run_folders import evaluation_overrides, networks
from oreo_agents.search import Search
from oreo_agents.serving.answering import LocalEngine
from oreo_agents.serving.settings import ServeSettings, able, default_search
from oreo_envs.answers import AnswerEnv
from oreo_envs.checks import closest

TOKEN_VARIABLE = "OREO_SERVE_TOKEN"

USAGE = """\
oreo serve RUN/NAME [KEY=VALUE ...]
oreo serve policy.path=FOLDER_OR_HUB_NAME [value.path=FOLDER] [search=NAME] [serve.port=8000] [KEY=VALUE ...]

An endpoint in OpenAI's form whose answers are searched by V: /v1/chat/completions, /v1/completions, /v1/models,
/v1/values, /health. It needs the extra [serve]: pip install "oreo-suite[serve]".

  search=NAME          answers where a request names none: greedy, best_of_n, step_beam, ... (searches.NAME.samples=N)
  serve.host, .port    where to listen; 127.0.0.1:8000 unless told otherwise, 0: any free port
  OREO_SERVE_TOKEN     the token that requests have to carry (or serve.token=..., which others on this machine can read)
  serve.max_tokens, .queue, .batch_size, .max_candidates, .steps, .name: docs/serving.md

  curl http://127.0.0.1:8000/v1/chat/completions -H "Content-Type: application/json" \\
       -d '{"messages": [{"role": "user", "content": "..."}], "search": "best_of_n", "seed": 0}'
"""


@dataclasses.dataclass(frozen=True)
class Served:
    """What is served.

    Attributes:
        engine: the networks.
        searches: by name, as the settings size them.
        settings: with the name of the default search.
        model: its name.
    """

    engine: LocalEngine
    searches: Mapping[str, Search]
    settings: ServeSettings
    model: str


def main(arguments: Sequence[str]) -> None:
    """Serve until told to end.

    Raises:
        UserError: settings that cannot be read, or the extra is missing.
        ValueError: networks that cannot be loaded, or a port that is taken.
    """
    if {"-h", "--help"} & set(arguments):
        print(USAGE, end="")
        return
    try:
        import fastapi  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise UserError(f'oreo serve needs the extra [serve] ({error}): pip install "oreo-suite[serve]"') from None
    served = load_served(arguments, command="serve", usage=USAGE)
    settings = served.settings
    try:
        with _listen(settings.host, settings.port) as listening:
            from oreo_agents.serving.app import create_app

            app = create_app(served.engine, served.searches, settings, model=served.model)
            print(_greeting(served, listening.getsockname()[1]), flush=True)
            server = uvicorn.Server(
                uvicorn.Config(
                    app, log_level="info", timeout_graceful_shutdown=settings.shutdown_s, server_header=False
                )
            )
            # uvicorn ends on this signal and raises it again for whoever else listens: nobody, so that we end cleanly.
            signal.signal(signal.SIGTERM, lambda *_: None)
            server.run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    print("oreo serve: ended")


def load_served(arguments: Sequence[str], *, command: str, usage: str) -> Served:
    """Load the networks that arguments name, RUN/NAME or ``policy.path=...``, and settings.

    Raises:
        UserError: settings that cannot be read, or no policy is named.
        ValueError: networks that cannot be loaded.
    """
    quiet()
    config = composed("serve", _overrides(arguments, command, usage))
    policy, value = build(config.policy), build(config.value)
    # No new adapters: those of the checkpoint are part of it.
    load = Loader(
        dataclasses.replace(policy, lora=Lora(), gradient_checkpointing=False),
        dataclasses.replace(value, lora=Lora(), gradient_checkpointing=False),
        Engines(build(config.sampler), policy, value.url, Path(tempfile.gettempdir())),
    )
    settings: ServeSettings = build(config.serve)
    searches: dict[str, Search] = {name: build(node) for name, node in config.searches.items()}
    if settings.search is not None and settings.search not in searches:
        known = ", ".join(searches)
        raise ValueError(
            f"search={settings.search}: unknown search{closest(settings.search, searches)} (known: {known})"
        )
    engine = _engine(load, policy, value, settings)
    name = settings.search or default_search(searches, has_value=engine.has_value)
    token = settings.token or os.environ.get(TOKEN_VARIABLE) or None
    return Served(
        engine, searches, dataclasses.replace(settings, search=name, token=token), settings.name or _name(policy.path)
    )


def _overrides(arguments: Sequence[str], command: str, usage: str) -> list[str]:
    """Return overrides of the configuration ``serve``; a run folder stands for its networks and settings."""
    folders = [text for text in arguments if "=" not in text]
    given = [text for text in arguments if "=" in text]
    given = [f"serve.{text}" if text.startswith("search=") else text for text in readable(given)]
    if len(folders) > 1 or (folders and folders[0].startswith("-")):
        raise UserError(f"oreo {command}: {' '.join(folders)} cannot be read\n\n{usage}")
    if not folders:
        if not any(text.startswith("policy.path=") for text in given):
            raise UserError(f"oreo {command} needs a policy: RUN/NAME, or policy.path=FOLDER_OR_HUB_NAME\n\n{usage}")
        return ["policy=checkpoint", *given]
    found = networks(Path(folders[0]))
    if len(found) > 1:
        names = ", ".join(network.name for network in found)
        raise ValueError(f"{folders[0]} holds several policies: give RUN/NAME, NAME of {names}")
    [network] = found
    taken = evaluation_overrides(Path(folders[0]), given)[1:]  # without the run itself, which `oreo eval` alone reads
    paths = [f"++policy.path={network.policy}", f"++value.path={network.value or 'null'}"]
    return [*(text for text in taken if not text.startswith(("++policy.path=", "++value.path="))), *paths, *given]


def _engine(load: Loader, policy: PolicySettings, value: ValueSettings, settings: ServeSettings) -> LocalEngine:
    assert policy.path is not None
    networks = [load.policy(policy.path), None if value.path is None else load.value(value.path, policy.path)]
    for network in networks:
        if network is not None:
            network.requires_grad_(False)
    trained = _trained_in(Path(policy.path))
    ends = settings.ends_at_answer
    return LocalEngine(
        networks[0],  # type: ignore[arg-type]
        load.prompt_format(policy.path),
        networks[1],  # type: ignore[arg-type]
        delimiters=settings.steps or tuple(getattr(trained, "step_delimiters", ())) or ("\n",),
        ends_at_answer=isinstance(trained, type) and issubclass(trained, AnswerEnv) if ends is None else ends,
        batch_size=settings.batch_size,
        front=load.prompt_format(policy.path),
        sampler=load.sampler(networks[0], policy.path),  # type: ignore[arg-type]
        judge=None if networks[1] is None else load.reader(networks[1], value.path),  # type: ignore[arg-type]
    )


def _trained_in(policy: Path) -> Any:
    """Return the class of the environment of the run that a policy lies in; None where nothing tells."""
    path = policy.parent.parent / "config.yaml"
    if not path.is_file():
        return None
    env = read_config(path).get("env")
    env_id = env.get("id") if isinstance(env, dict) else None
    entry_point: Any = registry[env_id].entry_point if env_id in registry else None
    return load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point


def _name(path: str) -> str:
    folder = Path(path)
    return (folder.resolve().parent.name if folder.name == "policy" else folder.name) or path


def _listen(host: str, port: int) -> socket.socket:
    """Return a bound socket, so that a port that is taken is said before anything else."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ValueError(f"cannot listen on {host}:{port} ({error}); choose another serve.port, or 0") from None
    return listening


def _greeting(served: Served, port: int) -> str:
    settings = served.settings
    fit, context = able(served.searches, served.engine.unfit), served.engine.context
    others = ", ".join(name for name in fit if name != settings.search)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    lines = [
        f"oreo serve: {served.model} at http://{host}:{port}/v1, search {settings.search} (also {others}); "
        f"context {context} tokens, of which an answer has at most {min(settings.max_tokens, context)}, "
        + ("V read by a value network" if served.engine.has_value else "no value network, so nothing is searched by V")
    ]
    if settings.token is None and settings.host not in ("127.0.0.1", "localhost", "::1"):
        lines.append(
            f"oreo serve: without a token anybody who reaches {settings.host} may use it: {TOKEN_VARIABLE}=..."
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
