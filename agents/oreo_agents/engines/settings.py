"""Who generates: this process, or a server beside it.

Knows: names and defaults. Does not know: networks, HTTP.
"""

import shlex
from dataclasses import dataclass
from typing import Any, Literal

from oreo_agents.networks.addresses import require_url
from oreo_envs.checks import closest

_ENGINES = ("local", "vllm")


@dataclass(frozen=True, kw_only=True)
class SamplerSettings:
    """Who generates.

    Attributes:
        engine: ``local``: the policy in this process; ``vllm``: a server of vLLM with the same weights.
        url: of a server that runs, such as http://127.0.0.1:8000.
        command: starts a server of our own in its place, such as "vllm serve"; the policy and the flags that the
            checks need are added, further flags of yours stay. It ends with the run.
        model: the name under which the server has the policy; None: the only name that it has.
        reload: have the server of ``url`` load the weights of each policy that is sampled; it must have been started
            with VLLM_SERVER_DEV_MODE=1 and see the run folder under the same path. One of ``command`` always does.
        in_flight: rows on their way at once, at most.
        step_tokens: tokens asked for at once where a row may have to stop at any of them (searches over steps).
        timeout_s: how long one answer may take, seconds.
        patience_s: how long a server may be away, or answer with errors, before we give up, seconds.
        start_s: how long ``command`` may take to be ready, seconds.
        audit: rows of every shard, or of every set of samples, that the own policy scores again; 0: none.
        tolerance: by how much log-probabilities of server and policy may differ, nats; also for V, reward units. 0.01
            fits float32 on both sides.
    """

    engine: Literal["local", "vllm"] = "local"
    url: str | None = None
    command: str | None = None
    model: str | None = None
    reload: bool = False
    in_flight: int = 128
    step_tokens: int = 64
    timeout_s: float = 600.0
    patience_s: float = 600.0
    start_s: float = 900.0
    audit: int = 8
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.engine not in _ENGINES:
            raise ValueError(
                f"sampler.engine must be local or vllm, got {self.engine!r}{closest(self.engine, _ENGINES)}"
            )
        for name in ("in_flight", "step_tokens"):
            _require_whole(f"sampler.{name}", getattr(self, name), 1)
        _require_whole("sampler.audit", self.audit, 0)
        for name in ("timeout_s", "patience_s", "start_s", "tolerance"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise ValueError(f"sampler.{name} must be a number > 0, got {value!r}")
        if not isinstance(self.reload, bool):
            raise ValueError(f"sampler.reload must be true or false, got {self.reload!r}")
        if self.engine == "local":
            given = [name for name in ("url", "command", "model") if getattr(self, name) is not None]
            if given:
                raise ValueError(f"sampler.{given[0]} is of a server: give sampler=vllm too")
            return
        if (self.url is None) == (self.command is None):
            raise ValueError(
                "sampler=vllm: give sampler.url=http://HOST:PORT of a server that runs, or "
                'sampler.command="vllm serve" to start one, and not both'
            )
        if self.url is not None:
            require_url("sampler.url", self.url)
        if self.command is not None and not (isinstance(self.command, str) and shlex.split(self.command)):
            raise ValueError(f'sampler.command must be a command such as "vllm serve", got {self.command!r}')


def _require_whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
