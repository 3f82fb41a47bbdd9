"""Parameters are honoured, or refused by name in a sentence."""

from typing import Any

import pytest

from oreo_agents.search import BestOfN, Greedy, Sampled, StepBeam
from oreo_agents.serving.bodies import Asked, RefusedError, read_json, read_messages, read_request
from oreo_agents.serving.settings import ServeSettings, known_searches

SAID = [{"role": "user", "content": "x"}]


def read(chat: bool = True, **body: Any) -> Asked:
    opening = {"messages": SAID} if chat else {"prompt": "x"}
    settings = ServeSettings(search="best_of_n", max_tokens=100, max_candidates=20, queue=8)
    return read_request({**opening, **body}, chat=chat, model="tiny", searches=known_searches(), settings=settings)


def test_what_is_said_nowhere_is_the_servers():
    asked = read()
    assert (asked.search, asked.search_name, asked.n, asked.stream) == (BestOfN(), "best_of_n", 1, False)
    assert asked.max_tokens is None and 0 <= asked.seed < 2**31
    assert read().seed != read().seed or read().seed != read().seed, "without a seed another one is drawn"


def test_what_is_honoured():
    asked = read(seed=-1, n=2, stop="a", max_completion_tokens=7, temperature=0.5, logprobs=True, user="me", top_p=1)
    assert (asked.seed, asked.n, asked.stops, asked.max_tokens, asked.logprobs) == (2**64 - 1, 2, ("a",), 7, True)
    assert asked.search == BestOfN(temperature=0.5)
    assert read(stop=["a", "b"]).stops == ("a", "b")
    assert read(tools=[], response_format={"type": "text"}, frequency_penalty=0.0, logit_bias=None, store=False)
    assert read(stream=True, stream_options={"include_usage": True}).include_usage
    assert read(model="tiny", messages=[{"role": "developer", "content": [{"type": "text", "text": "a"}]}, *SAID])


@pytest.mark.parametrize(
    ("body", "search", "name"),
    [
        ({"search": "greedy"}, Greedy(), "greedy"),
        ({"oreo": {"search": "greedy"}}, Greedy(), "greedy"),
        ({"search": "greedy", "temperature": 0}, Greedy(), "greedy"),
        ({"search": "greedy", "temperature": 0.7}, Sampled(temperature=0.7), "sampled"),
        ({"oreo": {"samples": 3}}, BestOfN(samples=3), "best_of_n"),
        ({"oreo": {"search": "step_beam", "keep": 1, "expand": 3}}, StepBeam(keep=1, expand=3), "step_beam"),
        (
            {"search": "step_beam", "oreo": {"expand": 2}, "temperature": 1},
            StepBeam(expand=2, temperature=1),
            "step_beam",
        ),
    ],
)
def test_a_request_chooses_its_search(body: dict[str, Any], search: Any, name: str):
    asked = read(**body)
    assert (asked.search, asked.search_name) == (search, name)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"temprature": 1}, r"unknown parameter 'temprature'; did you mean 'temperature'\?"),
        ({"top_p": 0.9}, "top_p=0.9 is not supported here"),
        ({"top_logprobs": 5}, "top_logprobs=5 is not supported"),
        ({"logprobs": 1}, "logprobs: true or false, got 1"),
        ({"logprobs": True, "stream": True}, "leave out stream, or logprobs"),
        ({"presence_penalty": True}, "presence_penalty=True is not"),
        ({"tools": [{"type": "function"}]}, "tools=.* is not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format=.* is not supported"),
        ({"prompt": "x"}, "prompt='x' is not supported here"),
        ({"temperature": 0}, "best_of_n: temperature must be > 0 to draw 8 different samples"),
        ({"temperature": 3}, "temperature: a number from 0 to 2, got 3"),
        ({"temperature": "hot"}, "temperature: a number from 0 to 2"),
        ({"max_tokens": 0}, "max_tokens: a whole number of at least 1, got 0"),
        ({"max_tokens": 2.5}, "max_tokens: a whole number"),
        ({"max_tokens": True}, "max_tokens: a whole number"),
        ({"max_tokens": 101}, "max_tokens is at most 100 here, got 101"),
        ({"max_completion_tokens": 10**30}, "max_completion_tokens is at most 100"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "are one limit"),
        ({"n": 9}, "n: a whole number from 1 to 8, got 9"),
        ({"n": 3}, "3 x 8 candidates: one request may have 20 drawn"),
        ({"oreo": {"samples": 10**9}}, "1 x 1000000000 candidates"),
        ({"oreo": {"samples": 0}}, "samples must be at least 1, got 0"),
        ({"oreo": {"samples": "8"}}, "oreo.samples: a number like 8, got '8'"),
        ({"oreo": {"sample": 8}}, r"oreo.sample: best_of_n has no such setting; did you mean 'samples'\?"),
        ({"oreo": "greedy"}, "oreo: an object such as"),
        ({"search": "best_off_n"}, r"search: unknown search 'best_off_n'; did you mean 'best_of_n'\?"),
        ({"search": ["greedy"]}, "search: unknown search"),
        ({"search": "greedy", "oreo": {"search": "greedy"}}, "are one setting"),
        ({"search": "admissible"}, "says one of given commands"),
        ({"search": "admissible", "oreo": {"commands": []}}, "says one of given commands"),
        ({"oreo": {"commands": ["a"]}}, "only the search 'admissible'"),
        ({"oreo": {"task": -1}}, "oreo.task: the number of a task, from 0, got -1"),
        ({"seed": 0.5}, "seed: a whole number of 64 bits"),
        ({"seed": 2**63}, "seed: a whole number of 64 bits"),
        ({"stop": ""}, "stop: a text of 1 to 256 characters"),
        ({"stop": ["a"] * 17}, "stop: "),
        ({"stop": [1]}, "stop: "),
        ({"stream": "yes"}, "stream: true or false"),
        ({"stream_options": {"x": 1}}, "stream_options takes include_usage"),
        ({"model": "gpt-4"}, "the model 'gpt-4' is not served here, 'tiny' is"),
        ({"messages": "hi"}, "messages: a list of at least one message"),
        ({"messages": []}, "messages: a list of at least one message"),
        ({"messages": ["hi"]}, r"messages\[0\]: an object with role and content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, r"messages\[0\].role: one of system"),
        ({"messages": [{"role": [], "content": "x"}]}, r"messages\[0\].role: one of system"),
        ({"messages": [{"role": "user"}]}, r"messages\[0\].content: a text, got None"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "a lone surrogate"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "parts of text alone"),
        ({"messages": [{"role": "user", "content": "x", "name": "Tom"}]}, "'name' cannot be read"),
        ({"messages": [*SAID, {"role": "assistant", "content": "y"}]}, "the last one is by user or system"),
        ({"messages": [*SAID, {"role": "system", "content": "y"}]}, "it is the first"),
        ({"messages": SAID * 1025}, "at most 1024"),
    ],
    ids=str,
)
def test_what_is_not_honoured_is_refused_by_name(body: dict[str, Any], message: str):
    with pytest.raises(RefusedError, match=message):
        read(**body)


@pytest.mark.parametrize("prompt", [None, "", [], ["a", "b"], [1, 2], 5])
def test_one_text_is_continued(prompt: Any):
    with pytest.raises(RefusedError, match="prompt: one text"):
        read(chat=False, prompt=prompt)
    assert read(chat=False, prompt=["a"], echo=False, best_of=1).prompt == "a"
    with pytest.raises(RefusedError, match="logprobs=0 is not supported"):
        read(chat=False, logprobs=0)


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[1]", b"null", b'{"a": NaN}', b"\xff", b"[" * 100_000, b'{"a": ' + b"1" * 5000 + b"}"]
)
def test_what_is_no_object_of_json_is_refused(raw: bytes):
    with pytest.raises(RefusedError, match="the body is"):
        read_json(raw)


def test_what_clients_send_back_is_read():
    echoed = {"role": "assistant", "content": "y", "refusal": None, "tool_calls": None, "annotations": []}
    assert read_messages([*SAID, echoed, *SAID], last=("user",))[1] == {"role": "assistant", "content": "y"}
