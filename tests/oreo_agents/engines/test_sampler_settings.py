"""Settings of a sampler: what cannot be meant is a sentence."""

from itertools import pairwise
from typing import Any

import pytest

from oreo_agents.engines.process import serve_command
from oreo_agents.engines.settings import SamplerSettings
from oreo_agents.networks.value import ValueSettings

URL = "http://127.0.0.1:8000"

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"engine": "vlm"}, "must be local or vllm, got 'vlm'.*vllm"),
    ({"engine": "vllm"}, "give sampler.url=http://HOST:PORT of a server that runs, or sampler.command="),
    ({"engine": "vllm", "url": URL, "command": "vllm serve"}, "and not both"),
    ({"url": URL}, "sampler.url is of a server: give sampler=vllm too"),
    ({"command": "vllm serve"}, "sampler.command is of a server"),
    ({"engine": "vllm", "url": "127.0.0.1:8000"}, "must be an address such as http://127.0.0.1:8000"),
    ({"engine": "vllm", "url": "http://127.0.0.1:port"}, "must be an address"),
    ({"engine": "vllm", "url": 8000}, "must be an address"),
    ({"engine": "vllm", "url": f"{URL}/v1"}, "leave out /v1"),
    ({"engine": "vllm", "command": " "}, 'must be a command such as "vllm serve"'),
    ({"engine": "vllm", "url": URL, "in_flight": 0}, "in_flight must be a whole number of at least 1"),
    ({"engine": "vllm", "url": URL, "audit": -1}, "audit must be a whole number of at least 0"),
    ({"engine": "vllm", "url": URL, "tolerance": 0}, "tolerance must be a number > 0"),
    ({"engine": "vllm", "url": URL, "timeout_s": True}, "timeout_s must be a number > 0"),
    ({"engine": "vllm", "url": URL, "patience_s": float("inf")}, "patience_s must be a number > 0"),
    ({"engine": "vllm", "url": URL, "reload": "yes"}, "reload must be true or false"),
]


@pytest.mark.parametrize(("given", "said"), WRONG)
def test_settings_that_cannot_be_meant_are_a_sentence(given: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        SamplerSettings(**given)


def test_an_address_of_a_value_is_checked_too():
    with pytest.raises(ValueError, match=r"value.url must be an address"):
        ValueSettings(url="somewhere")


def test_the_command_serves_a_policy_as_the_checks_need_it():
    command = "/env/bin/vllm serve --gpu-memory-utilization 0.8 --max-model-len=2048"
    words = serve_command(command, "my policy", port=1234, context=512, dtype="bfloat16", trust=True)
    assert words[:5] == ["/env/bin/vllm", "serve", "my policy", "--gpu-memory-utilization", "0.8"]
    pairs = dict(pairwise(words))
    assert pairs["--port"] == "1234" and pairs["--host"] == "127.0.0.1" and pairs["--dtype"] == "bfloat16"
    assert pairs["--logprobs-mode"] == "processed_logprobs" and pairs["--generation-config"] == "vllm"
    assert "--max-model-len=2048" in words and "--max-model-len" not in words  # what the user says stays
    assert words[-1] == "--trust-remote-code"
    with pytest.raises(ValueError, match="leave out --port"):
        serve_command("vllm serve --port 1", "p", port=1, context=1, dtype="float32", trust=False)
