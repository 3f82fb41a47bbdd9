"""Models behind OpenAI-compatible servers as agents, and what servers do to whoever asks them."""

import asyncio
import json
import logging
import socket
import threading
import time
from email.utils import formatdate

import pytest
from env_samples import GSM8K_ROWS
from stub_server import completion, failure, serving

from oreo_envs import ChatClient, ChatError, ChatRefused, EvaluationStopped, Reply, evaluate
from oreo_envs.replies import AskAgainError, Usage, reply_of, retry_after

pytestmark = pytest.mark.usefixtures("data_folder")

ANSWERS = {row["question"]: row["answer"].rpartition("#### ")[2] for row in GSM8K_ROWS}
FAST = {"backoff_s": 0.001, "timeout_s": 30.0}
TASK = {"split": "test"}


def right(request):
    return completion(f"So the answer is {ANSWERS[request['messages'][-1]['content']]}.")


def play(url, **options):
    return evaluate(ChatClient(url, "stub", **{**FAST, **options}), "oreo/GSM8K-v0", split="test")


def test_a_server_is_asked_once_a_task_and_what_it_takes_is_counted():
    with serving(right) as stub:
        client = ChatClient(f"{stub.url}/", "m", "secret", temperature=0.5, max_tokens=99, request={"top_p": 0.9})
        result = evaluate(client, "oreo/GSM8K-v0", split="test")
    assert result.success_rate == 1.0 and len(stub.requests) == 4
    assert all(
        (request["model"], request["temperature"], request["max_tokens"], request["top_p"]) == ("m", 0.5, 99, 0.9)
        and [message["role"] for message in request["messages"]] == ["system", "user"]
        for request in stub.requests
    )
    assert {headers["authorization"] for headers in stub.headers} == {"Bearer secret"}
    assert result.usage == Usage(4, 40, 12, 0.0) and "; 40 tokens read, 12 written" in str(result)
    assert result.rows[0].info["finish_reason"] == "stop"
    assert "secret" not in repr(client) and "secret" not in str(client.described())


def test_cost_is_what_the_server_says_or_what_prices_say():
    with serving(lambda request: completion("7", usage={"cost": 0.25, "prompt_tokens": "?"})) as stub:
        assert play(stub.url).usage == Usage(4, 0, 0, 1.0)
    with serving(right) as stub:
        assert play(stub.url, prices=(1.0, 2.0)).usage.cost == pytest.approx((40 + 2 * 12) / 1e6)


def test_as_many_tasks_are_asked_at_once_as_is_said():
    together = threading.Barrier(4)

    def answer(request):
        together.wait(60)  # passes when four are here
        return right(request)

    with serving(answer) as stub:
        client = ChatClient(stub.url, "stub", **FAST)
        assert evaluate(client, "oreo/GSM8K-v0", split="test", num_envs=4).success_rate == 1.0


@pytest.mark.parametrize(
    "trouble",
    [
        (429, failure("slow down"), {"Retry-After": "0"}),
        (503, b"<html>busy</html>"),
        (500, failure("oops")),
        (200, b"no json"),
        (200, b"no gzip", {"content-encoding": "gzip"}),
        (200, b""),
        (200, b"[1, 2]"),
        (200, {"choices": []}),
        (200, {"choices": [{"message": None}]}),
        (200, {"choices": "no"}),
        (200, completion(17)),
        (200, {"error": {"message": "upstream is busy", "code": 429}}),
    ],
)
def test_what_may_pass_is_asked_again(trouble):
    met = set()

    def answer(request):
        question = request["messages"][-1]["content"]
        if question in met:
            return right(request)
        met.add(question)
        return trouble

    with serving(answer) as stub:
        result = play(stub.url)
    assert result.success_rate == 1.0 and len(stub.requests) == 8 and result.errors == {}


def only_the_first(trouble):
    """Trouble with one task, for ever."""
    first = next(iter(ANSWERS))
    return lambda request: trouble if request["messages"][-1]["content"] == first else right(request)


@pytest.mark.parametrize(
    ("trouble", "error", "asked"),
    [
        ((429, failure("slow down"), {"Retry-After": "0"}), "ChatError: 429: slow down (asked 3 times)", 3),
        ((200, b"{"), "ChatError: the server answered no chat completion but '{' (asked 3 times)", 3),
        ((400, failure("maximum context length is 12 tokens")), "ChatError: the server does not take the request", 1),
        ((422, {"detail": [{"loc": ["body"]}]}), "ChatError: the server does not take the request", 1),
        (completion(None, tool_calls=[{"function": {"name": "search"}}]), "ChatError: the model called a tool", 1),
        (completion("Half of", finish="content_filter"), "ChatError: the server withheld the answer", 1),
    ],
)
def test_a_task_without_a_reply_has_an_error_and_is_not_counted(trouble, error, asked):
    with serving(only_the_first(trouble)) as stub:
        result = play(stub.url, retries=2)
    assert len(stub.requests) == 3 + asked
    [said] = result.errors.values()
    assert said.startswith(error) and not result.rows[0].counted
    assert (result.success_rate, len(result.counted)) == (1.0, 3)
    assert "3 of 3 tasks solved" in str(result)
    assert f"; 1 ended in an error and are not counted, the first: {error}" in str(result)


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (completion(None), None),  # an empty answer is an answer
        (completion(""), None),
        (completion(None, refusal="I will not say."), None),
        (completion([{"type": "text", "text": "It is "}, {"type": "text", "text": "7."}, {"type": "image"}]), "7"),
        (completion("It is 7.", tool_calls=[{}]), "7"),
        (completion("Größe \ud800.\nThe answer is 7."), "7"),
    ],
)
def test_what_a_model_says_is_graded_whatever_form_it_has(body, answer):
    with serving(only_the_first(body)) as stub:
        row = play(stub.url).rows[0]
    assert (row.counted, row.success, row.answer) == (True, answer is not None, answer)


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("So #### 7\nand then", (True, False, "7")),  # its line was whole
        ("\\boxed{7} or", (True, False, "7")),
        ("#### 7", (False, True, None)),  # may go on as 70
        ("The answer is 7", (False, True, None)),
        ("", (False, True, None)),
    ],
)
@pytest.mark.parametrize("finish", ["length", "max_tokens"])
def test_a_reply_that_a_limit_cut_is_graded_only_where_its_answer_is_whole(text, outcome, finish):
    with serving(only_the_first(completion(text, finish=finish))) as stub:
        result = play(stub.url)
    row = result.rows[0]
    assert (row.success, row.truncated, row.answer) == outcome and row.counted
    assert ("; 1 ended at a limit" in str(result)) is outcome[1]
    assert row.info["finish_reason"] == finish


def test_a_command_that_a_limit_cut_is_not_obeyed():
    said = evaluate(lambda m: Reply("look", cut=True), "oreo/ALFWorld-v0", split="valid_seen").rows[0]
    assert (said.truncated, said.steps, said.info["invalid_reason"]) == (True, 1, "cut_off")


REFUSALS = [
    ((401, failure("Incorrect API key provided: secret")), r"refuses the key, or wants one \(401: .*\*\*\*"),
    ((403, failure("no")), "refuses the key"),
    ((404, failure("The model `stub` does not exist")), r"does not know the model, or has nothing there \(404"),
    ((404, b"Not Found"), "base_url usually ends in /v1"),
    ((400, failure("model 'stub' not found")), "does not know the model"),
    ((400, failure("?", code="model_not_found")), "does not know the model"),
    ((402, failure("Insufficient Balance")), "the account is used up"),
    ((429, failure("quota", code="insufficient_quota")), "the account is used up"),
    ((429, failure("wait"), {"Retry-After": "86400"}), "asks to wait 86400 seconds"),
    ((308, b"", {"location": "https://there/v1"}), "'https://there/v1'"),
    (
        (400, failure("temperature is not supported")),
        "3 requests failed and none was answered; the last: .*temperature",
    ),
]


@pytest.mark.parametrize(("trouble", "sentence"), REFUSALS, ids=[str(i) for i in range(len(REFUSALS))])
def test_a_server_that_answers_nobody_ends_the_run_with_a_sentence(trouble, sentence):
    with serving(lambda request: trouble) as stub, pytest.raises(EvaluationStopped, match=sentence) as stopped:
        client = ChatClient(stub.url, "stub", "secret", **FAST)
        evaluate(client, "oreo/Arithmetic-v0", split="test", episodes=200, num_envs=2)
    assert len(stub.requests) < 8 and "of 200 episodes were finished" in str(stopped.value)
    assert "secret" not in str(stopped.value) and "secret" not in str(stopped.value.__context__)


def test_a_server_that_refuses_later_leaves_what_was_finished():
    def answer(request):
        return right(request) if len(stub.requests) < 3 else (401, failure("expired"))

    with serving(answer) as stub, pytest.raises(EvaluationStopped, match="2 of 4 episodes were finished") as stopped:
        evaluate(ChatClient(stub.url, "stub", **FAST), "oreo/GSM8K-v0", split="test", num_envs=1)
    assert [row.success for row in stopped.value.evaluation.rows] == [True, True]


def test_a_server_that_dies_ends_the_run_before_all_tasks_have_failed():
    def answer(request):
        return completion("#### 1") if len(stub.requests) < 3 else (503, b"")

    with serving(answer) as stub, pytest.raises(EvaluationStopped, match="20 requests in a row failed; the last: 503"):
        client = ChatClient(stub.url, "stub", **FAST, retries=0)
        evaluate(client, "oreo/Arithmetic-v0", split="test", episodes=100, num_envs=2)
    assert len(stub.requests) < 26


def test_nobody_there_is_said_and_ends_the_run(caplog):
    with socket.socket() as place:  # bound, not listening
        place.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{place.getsockname()[1]}/v1"
        with pytest.raises(EvaluationStopped, match=f"none was answered; the last: nobody answers at {url}"):
            play(url, retries=1)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] and "asking again" in caplog.text


def test_a_server_that_is_too_slow_is_left():
    late = threading.Event()
    first = next(iter(ANSWERS))

    def answer(request):
        if request["messages"][-1]["content"] == first:
            late.wait(60)
        return right(request)

    with serving(answer) as stub:
        client = ChatClient(stub.url, "stub", **FAST, retries=1)
        client.ask([{"role": "user", "content": list(ANSWERS)[1]}])
        client.timeout_s = 0.5  # how many of the others make it is the machine's affair
        result = evaluate(client, "oreo/GSM8K-v0", split="test", num_envs=1)
        late.set()
    assert not result.rows[0].counted and len(result.rows) == 4
    assert result.rows[0].error == "ChatError: no answer within 0.5 seconds (asked 2 times)"


def test_requests_are_spread_over_the_minute():
    with serving(right) as stub:
        begun = time.monotonic()
        assert play(stub.url, requests_per_minute=1200).success_rate == 1.0
    assert time.monotonic() - begun >= 3 * 0.05  # four, the first at once


def test_all_requests_wait_as_the_server_says():
    def answer(request):
        return (429, failure("wait"), {"Retry-After": "0.3"}) if len(stub.requests) == 1 else right(request)

    with serving(answer) as stub:
        begun = time.monotonic()
        client = ChatClient(stub.url, "stub", **FAST)
        assert evaluate(client, "oreo/GSM8K-v0", split="test", num_envs=1).success_rate == 1.0
    assert len(stub.requests) == 5 and time.monotonic() - begun >= 0.3


def test_requests_stay_spread_after_a_wait_that_the_server_asked_for():
    begun = []

    def answer(request):
        begun.append(time.monotonic())
        return (429, failure("slow"), {"Retry-After": "0.3"}) if len(begun) == 1 else right(request)

    with serving(answer) as stub:
        client = ChatClient(stub.url, "stub", requests_per_minute=1200, **FAST)
        assert evaluate(client, "oreo/GSM8K-v0", split="test", num_envs=4).success_rate == 1.0
    assert begun[-1] - begun[1] >= 3 * 0.05 - 0.04  # four after the wait, a twentieth of a second apart


@pytest.mark.parametrize(
    ("value", "seconds"), [("3", 3.0), ("0.5", 0.5), (formatdate(0), 0.0), ("soon", None), ("", None), ("-1", None)]
)
def test_retry_after_is_a_number_or_a_date(value, seconds):
    assert retry_after({"retry-after": value}) == seconds


def test_a_date_to_come_back_at_is_told_in_seconds():
    assert 50 < retry_after({"retry-after": formatdate(time.time() + 60, usegmt=True)}) <= 61


def test_thoughts_that_the_server_took_out_are_put_back_when_asked_for():
    body = completion("So 7.", reasoning_content="\nhm\n")
    assert reply_of(body).text == "So 7."
    assert reply_of(body, keep_thoughts=True).text == "<think>\nhm\n</think>\n\nSo 7."
    with pytest.raises(AskAgainError, match="no chat completion but 'x'"):
        reply_of("x")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"base_url": "localhost:8000", "model": "m"}, "base_url begins with http:// or https://"),
        ({"base_url": "http://", "model": "m"}, "base_url begins with http:// or https://"),
        ({"base_url": "http://x/v1", "model": ""}, "model is the name of a model"),
        ({"base_url": "http://x/v1", "model": "m", "timeout_s": 0}, "timeout_s must be a number > 0, got 0"),
        ({"base_url": "http://x/v1", "model": "m", "retries": -1}, "retries must be an integer >= 0, got -1"),
        ({"base_url": "http://x/v1", "model": "m", "requests_per_minute": "9"}, "requests_per_minute must be a number"),
    ],
)
def test_a_client_that_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ChatClient(**arguments)


def test_a_client_can_be_asked_by_hand():
    question = [{"role": "user", "content": next(iter(ANSWERS))}]
    with serving(right) as stub:
        client = ChatClient(stub.url, "stub", **FAST)
        assert str(client.ask(question)) == "So the answer is 7."

        async def notebook():
            return client.ask(question).text, (await client(question)).text

        assert asyncio.run(notebook()) == ("So the answer is 7.",) * 2
    with serving(lambda request: (400, failure("no"))) as stub:
        client = ChatClient(stub.url, "stub", **FAST)
        with pytest.raises(ChatError, match="400: no"):
            client.ask(question)
        assert issubclass(ChatRefused, ChatError)


def test_client_objects_of_other_libraries_are_agents(monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with serving(right) as stub:
        client = hub.InferenceClient(base_url=stub.url, api_key="secret")
        result = evaluate(client, "oreo/GSM8K-v0", split="test", model="m", request={"max_tokens": 9}, num_envs=3)
        assert result.success_rate == 1.0 and result.usage.prompt_tokens == 40
        assert {(request["model"], request["max_tokens"]) for request in stub.requests} == {("m", 9)}
        with pytest.raises(ValueError, match="say which with model="):
            evaluate(client, "oreo/GSM8K-v0", split="test")
        with pytest.raises(EvaluationStopped, match=r"cannot be asked this way: TypeError: .*temprature"):
            evaluate(client, "oreo/GSM8K-v0", split="test", model="m", request={"temprature": 1})
    with serving(lambda request: (401, failure("Invalid key"))) as stub:
        client = hub.InferenceClient(base_url=stub.url, api_key="secret")
        with pytest.raises(EvaluationStopped, match="refuses the key, or wants one"):
            evaluate(client, "oreo/GSM8K-v0", split="test", model="m")
    with pytest.raises(ValueError, match="are for client objects"):
        evaluate(lambda messages: "", "oreo/GSM8K-v0", split="test", model="m")


class Answer:
    def __init__(self, body):
        """Hold a body."""
        self.body = body

    def model_dump(self):
        return self.body


class StatusError(Exception):
    def __init__(self, status):
        """Hold a status."""
        super().__init__("no")
        self.status_code, self.body, self.response = status, {"message": "no"}, None


class FakeOpenAI:
    """The form of `openai.OpenAI`: `with_options`, pydantic-like answers, errors with `status_code`."""

    def __init__(self, statuses=()):
        """Fail with these statuses first."""
        self.statuses, self.max_retries, self.asked = list(statuses), 2, 0
        self.chat = self.completions = self

    def with_options(self, *, max_retries):
        self.max_retries = max_retries
        return self

    def create(self, *, model, messages):
        self.asked += 1
        if self.statuses:
            raise StatusError(self.statuses.pop(0))
        return Answer(right({"messages": json.loads(json.dumps(messages))}))


class FakeAsyncOpenAI(FakeOpenAI):
    """The form of `openai.AsyncOpenAI`, whose decorated `create` does not look like a coroutine function."""

    def create(self, **asked):
        async def later():
            await asyncio.sleep(0)
            return super(FakeAsyncOpenAI, self).create(**asked)

        return later()


@pytest.mark.parametrize("kind", [FakeOpenAI, FakeAsyncOpenAI])
def test_openai_objects_are_told_by_their_form(kind, monkeypatch):
    monkeypatch.setattr("oreo_envs.chat.random.uniform", lambda low, high: 0.0)
    client = kind([500, 429])
    assert evaluate(client, "oreo/GSM8K-v0", split="test", model="m").success_rate == 1.0
    assert (client.asked, client.max_retries) == (6, 0)
    with pytest.raises(EvaluationStopped, match="refuses the key"):
        evaluate(kind([401]), "oreo/GSM8K-v0", split="test", model="m")


@pytest.mark.parametrize(
    ("url", "arguments", "message"),
    [
        (None, {"api_key": "secret\n"}, "api_key is a text of ASCII"),
        (None, {"api_key": "geheimschlüssel"}, "api_key is a text of ASCII"),
        (None, {"api_key": ""}, "None where the server wants none"),
        (None, {"headers": {"x": 1}}, "headers: the name and value of 'x'"),
        (None, {"request": {"stop": {"a"}}}, "request holds what JSON cannot say"),
        (None, {"request": {"top_p": float("nan")}}, "request holds what JSON cannot say"),
        (None, {"request": {"messages": []}}, "'messages'"),
        (None, {"request": {"stream": True}}, "whole replies are read"),
        (None, {"prices": (1,)}, "prices are two numbers"),
        (None, {"prices": "ab"}, "prices are two numbers"),
        ("http://[::1", {}, "base_url begins with"),
        ("http://localhost:99999/v1", {}, "base_url begins with"),
        ("http://localhost/v1?version=2", {}, "base_url begins with"),
    ],
)
def test_what_no_request_can_be_made_of_is_refused_at_once(url, arguments, message):
    with pytest.raises(ValueError, match=message) as refused:
        ChatClient(url or "http://localhost:8000/v1", "m", **arguments)
    assert "secret" not in str(refused.value) and "geheim" not in str(refused.value)


def test_a_password_in_the_address_is_not_shown():
    client = ChatClient("http://me:hidden@127.0.0.1:1/v1", "m", retries=0, **FAST)
    with pytest.raises(ChatError) as error:
        client.ask([{"role": "user", "content": "?"}])
    assert "nobody answers at http://127.0.0.1:1/v1" in str(error.value) and "hidden" not in str(error.value)
