"""Who generates and who reads V in a run: its own networks, or servers that have the same weights.

Knows: settings, checkpoints, which server has which weights. Does not know: requests, searches, stages.
"""

import logging
import os
from functools import partial
from pathlib import Path

from oreo_agents.engines.line import Line, ServerError
from oreo_agents.engines.process import ServerProcess, free_port, load_weights, serve_command
from oreo_agents.engines.proof import OtherWeightsError
from oreo_agents.engines.server_sampler import ServerSampler
from oreo_agents.engines.server_value import ServerValue
from oreo_agents.engines.settings import SamplerSettings
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.sampler import LocalSampler, Sampler
from oreo_agents.networks.adapters import adapted_path
from oreo_agents.networks.checkpoints import weights_digest
from oreo_agents.networks.policy import CausalPolicy, PolicySettings
from oreo_agents.networks.value import StateValue, TokenValue

_log = logging.getLogger(__name__)

TOKEN_VARIABLE = "OREO_SAMPLER_TOKEN"
"""Environment variable with what servers of ``sampler.url`` and ``value.url`` want to hear."""


_open: "set[Engines]" = set()


def close_engines() -> None:
    """End every server that this process started, and every line to one."""
    for engines in list(_open):
        engines.close()


class Engines:
    """Servers of one run; a server is met, and started, when something is first asked of it."""

    def __init__(self, settings: SamplerSettings, policy: PolicySettings, value_url: str | None, folder: Path) -> None:
        """Take the settings.

        Args:
            settings: who generates.
            policy: dtype, and whether code that comes with it is run.
            value_url: of a server that reads V; None: this process does.
            folder: of the run, where the log of a server goes.
        """
        self.settings, self.policy_settings, self.value_url, self.folder = settings, policy, value_url, folder
        self._lines: dict[str, Line] = {}
        self._process: ServerProcess | None = None

    def sampler(self, policy: CausalPolicy, path: str, prompt_format: PromptFormat) -> Sampler:
        """Return what draws from a policy.

        Raises:
            ServerError: a server is to, and does not draw what the policy would.
        """
        if self.settings.engine == "local":
            return LocalSampler(policy)
        if self.settings.command is None:
            line = self._line(str(self.settings.url))
        else:
            process = self._start(policy, path)
            line = self._line(process.url)
            line.on_away = process.revive

        def meet() -> ServerSampler:
            return ServerSampler(
                line,
                policy,
                self.settings,
                version=weights_digest(path),
                special=prompt_format.tokenizer.all_special_ids,
                vocabulary=len(prompt_format.tokenizer),
            )

        line.on_return = None
        try:
            return meet()
        except OtherWeightsError:
            if self._process is None and not self.settings.reload:
                raise
        self._load(line, path)
        return meet()

    def judge(self, value: TokenValue, path: str, prompt_format: PromptFormat) -> StateValue:
        """Return what reads V for searches.

        Raises:
            ServerError: a server is to, and does not say what the value network does.
        """
        if self.value_url is None:
            return value
        line = self._line(self.value_url)

        def meet() -> ServerValue:
            special = prompt_format.tokenizer.all_special_ids
            return ServerValue(line, value, self.settings, version=weights_digest(path), special=special)

        line.on_return = None
        try:
            return meet()
        except OtherWeightsError:
            if not self.settings.reload:
                raise
        line.do(load_weights(line, _whole(path)))
        return meet()

    def close(self) -> None:
        """End what was started here."""
        _open.discard(self)
        for line in self._lines.values():
            line.close()
        self._lines = {}
        if self._process is not None:
            self._process.close()
            self._process = None

    def _line(self, url: str) -> Line:
        if url not in self._lines:
            _open.add(self)
            how = self.settings
            self._lines[url] = Line(
                url,
                token=os.environ.get(TOKEN_VARIABLE),
                in_flight=how.in_flight,
                timeout_s=how.timeout_s,
                patience_s=how.patience_s,
            )
        return self._lines[url]

    def _start(self, policy: CausalPolicy, path: str) -> ServerProcess:
        """Start a server of our own unless it runs."""
        if self._process is None:
            port, how = free_port(), self.policy_settings
            command_for = partial(
                serve_command,
                str(self.settings.command),
                port=port,
                context=policy.max_length,
                dtype=how.dtype,
                trust=how.trust_remote_code,
            )
            _open.add(self)
            self._process = ServerProcess(command_for, self.folder / "sampler.log", port)
        if not self._process.alive:
            self._process.start(_whole(path))
            self._process.wait(self.settings.start_s)
        return self._process

    def _load(self, line: Line, path: str) -> None:
        """Give a running server the weights of another policy; one of ours that cannot take them is started anew."""
        folder = _whole(path)
        try:
            line.do(load_weights(line, folder))
        except ServerError as error:
            if self._process is None:
                raise
            _log.info("the server of sampler.command is started anew: %s", error)
            self._process.start(folder)
            self._process.wait(self.settings.start_s)
        if self._process is not None:
            self._process.folder = folder


def _whole(path: str) -> str:
    """Return a checkpoint that a server can load by itself.

    Raises:
        ServerError: it holds adapters alone.
    """
    if adapted_path(path) is not None:
        raise ServerError(
            f"{path} holds adapters without the weights that they adapt, and a server is given whole checkpoints: "
            "train with policy.lora.save=merged, or serve it yourself (--enable-lora) and give "
            "sampler.url and sampler.model"
        )
    return path
