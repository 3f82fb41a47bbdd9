"""Tiny networks, a fake server, and samplers that are met there."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_vllm import FakeVllm
from tiny_models import make_model

from oreo_agents.engines.line import Line
from oreo_agents.engines.server_sampler import ServerSampler
from oreo_agents.engines.settings import SamplerSettings
from oreo_agents.networks.policy import CausalPolicy

Meet = Callable[..., ServerSampler]


@pytest.fixture(scope="session")
def policies() -> list[CausalPolicy]:
    return [CausalPolicy(make_model("llama", seed=seed)) for seed in range(2)]


@pytest.fixture
def fake(policies: list[CausalPolicy]) -> Iterator[FakeVllm]:
    with FakeVllm(policies[0]) as server:
        yield server


@pytest.fixture
def lines() -> Iterator[Callable[..., Line]]:
    opened = []

    def of(server: FakeVllm, how: SamplerSettings) -> Line:
        limits = {"in_flight": how.in_flight, "timeout_s": how.timeout_s, "patience_s": how.patience_s}
        opened.append(Line(server.url, token="secret", **limits))  # type: ignore[arg-type]
        return opened[-1]

    yield of
    for line in opened:
        line.close()


@pytest.fixture
def meet(policies: list[CausalPolicy], lines: Callable[..., Line]) -> Meet:
    def of(server: FakeVllm, *, policy: int | CausalPolicy = 0, version: str = "a", **settings: Any) -> ServerSampler:
        how = SamplerSettings(engine="vllm", url=server.url, **settings)
        own = policies[policy] if isinstance(policy, int) else policy
        return ServerSampler(lines(server, how), own, how, version=version)

    return of
