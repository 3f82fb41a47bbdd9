"""A plain environment of text is filled up, or told what it lacks."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.spaces import Discrete, Text

import oreo_envs
from oreo_envs import FreeText, PlainEnv


class Guess(gym.Env[str, str]):
    """A game: a turn is an action."""

    action_space = observation_space = FreeText()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.number, self.left = int(self.np_random.integers(1, 9)), 4
        return "A number from 1 to 8.", {"hint": "halve"}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        guess = int(action)
        if guess == self.number:
            return "Right.", 1.0, True, False, {}
        return ("Higher." if guess < self.number else "Lower."), 0.0, False, self.left == 0, {}

    def demonstrate(self) -> list[str]:
        return [str(number) for number in (4, 2, 6, self.number)]


class Double(Guess):
    """A question: an action is a whole answer."""

    step_delimiters = ("\n",)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        gym.Env.reset(self, seed=seed)
        self.number = int(self.np_random.integers(1, 1000))
        return f"Double {self.number}.", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return "", float(action.split()[-1] == str(2 * self.number)), True, False, {}

    def demonstrate(self) -> str:  # type: ignore[override]
        return f"{self.number} + {self.number}\n{2 * self.number}"

    def canonical(self, answer: str) -> str:
        return answer.lstrip("0")


class Listed(Guess):
    """It has tasks and splits of its own, and says how it went."""

    splits = ("train", "eval")
    held_out_splits = ("eval",)
    num_tasks = 3

    def __init__(self, split: str = "train") -> None:
        """Take the split."""
        self.split = split

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        gym.Env.reset(self, seed=seed)
        index = options["index"]
        text = f"{self.split} {index}"
        return text, {"task_id": f"mine/{text}", "messages": [{"role": "system", "content": text}]}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return "", -1.0, True, False, {"success": True, "answer": action}


class Numbers(Guess):
    action_space = Discrete(4)  # type: ignore[assignment]


class Spaceless(gym.Env[str, str]):
    pass


class Pictures(Guess):
    observation_space = Discrete(4)  # type: ignore[assignment]


class Unseeded(Guess):
    count = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        Unseeded.count += 1
        return f"{Unseeded.count}", {}


class Odd(Guess):
    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        return 3, {}  # type: ignore[return-value]


class Chat(Guess):
    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        return "a", {"messages": ["hello"]}


class Same(Double):
    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        gym.Env.reset(self, seed=seed)
        return "Always this.", {}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    kinds = (Guess, Double, Listed, Numbers, Pictures, Spaceless, Unseeded, Odd, Chat, Same)
    for kind in kinds:
        gym.register(f"Plain{kind.__name__}-v0", entry_point=kind)
    yield
    for kind in kinds:
        del gym.registry[f"Plain{kind.__name__}-v0"]


def make(name: str, **keywords: Any) -> PlainEnv:
    env = oreo_envs.make(f"Plain{name}-v0", **keywords)
    assert isinstance(env, PlainEnv)
    return env


def test_messages_task_and_success_are_filled_in():
    env = make("Guess")
    opening, info = env.reset(options={"index": 7})
    assert info["messages"] == [{"role": "user", "content": opening}]
    assert (info["task_id"], info["index"], info["split"]) == ("plainguess/train/7", 7, "train")
    assert info["hint"] == "halve" and info["success"] is False
    number = env.inner.unwrapped.number  # type: ignore[attr-defined]
    env.step(str(number % 8 + 1))
    _, reward, terminated, _, info = env.step(str(number))
    assert (reward, terminated, info["success"]) == (1.0, True, True)
    assert [message["role"] for message in info["messages"]] == ["user", "assistant", "user", "assistant", "user"]
    assert env.reset(options={"task_id": "plainguess/train/7"})[1]["index"] == 7


def test_a_limit_of_the_environment_truncates():
    env = make("Guess")
    env.reset(options={"index": 0})
    number = env.inner.unwrapped.number  # type: ignore[attr-defined]
    for _ in range(4):
        *_, terminated, truncated, info = env.step(str(number % 8 + 1))
    assert (terminated, truncated, info["success"]) == (False, True, False)


def test_a_state_is_copied_by_playing_it_again():
    env = make("Guess")
    env.reset(options={"index": 3})
    number = env.inner.unwrapped.number  # type: ignore[attr-defined]
    env.step(str(number % 8 + 1))
    state = env.clone_state()
    assert env.step(str(number))[1] == 1.0
    env.reset(options={"index": 4})
    env.restore_state(state)
    assert env.step(str(number))[1] == 1.0  # as if nothing had been between


def test_splits_of_games_are_other_seeds_and_those_of_questions_other_texts():
    numbers = {}
    for split in ("train", "test"):
        env = make("Guess", split=split)
        env.reset(options={"index": 0})
        numbers[split] = env._seed(0, 0)
    assert numbers["train"] != numbers["test"]
    asked = [{make("Double", split=s).reset(options={"index": i})[0] for i in range(40)} for s in ("train", "test")]
    assert len(asked[0]) > 20 and not asked[0] & asked[1]


def test_an_answer_is_handed_over_as_a_whole():
    env = make("Double")
    question, _ = env.reset(options={"index": 1})
    right = 2 * int(question.split()[1].rstrip("."))
    assert not env.step("Let me see.\n")[2]
    env.step(str(right))
    _, reward, terminated, _, info = env.step("")
    assert (reward, terminated, info["success"], info["answer"]) == (1.0, True, True, str(right))
    assert env.canonical("007") == "7" and make("Guess").canonical(" A  b") == "a b"


def test_an_answer_of_too_many_steps_is_handed_over_too():
    env = make("Double", max_steps=2)
    question, _ = env.reset(options={"index": 1})
    env.step("Well.\n")
    _, reward, terminated, truncated, info = env.step(str(2 * int(question.split()[1].rstrip("."))))
    assert (reward, terminated, truncated, info["success"]) == (1.0, False, True, True)


@pytest.mark.parametrize("name", ["Guess", "Double"])
def test_demonstrations_are_those_of_the_environment(name: str):
    shown = make(name).demonstration(2)
    assert shown.info["success"] is True and sum(shown.rewards) == 1.0
    assert [shown.messages[m]["content"][a:b] for m, a, b in shown.spans] == list(shown.steps)
    with pytest.raises(ValueError, match="held out"):
        make(name, split="test").demonstration(0)


def test_what_the_environment_says_itself_stays():
    env = make("Listed", split="eval")
    assert (env.splits, env.held_out_splits, env.num_tasks) == (("train", "eval"), ("eval",), 3)
    _, info = env.reset(options={"index": 2})
    assert info["task_id"] == "mine/eval 2" and info["messages"][0]["role"] == "system"
    info = env.step("x")[4]
    assert (info["success"], info["answer"]) == (True, "x")
    with pytest.raises(ValueError, match="indices >= 0 and < 3"):
        env.reset(options={"index": 3})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "Numbers",
            r"PlainNumbers-v0: actions are Discrete\(4\), and a policy reads and says text; make action_space",
        ),
        ("Spaceless", r"PlainSpaceless-v0: actions are None, and a policy reads and says text"),
        ("Pictures", r"observations are Discrete\(4\)"),
        ("Unseeded", r"with one seed began with '1' and then with '2'"),
        ("Odd", r"reset returned an observation of type int, 3"),
        ("Same", "none begins a task of split 'train'|none begins a task of split"),
    ],
)
def test_what_cannot_be_filled_in_is_said(name: str, message: str):
    with pytest.raises(ValueError, match=message):
        for split in ("train", "dev", "test"):
            make(name, split=split)


def test_messages_that_are_none_and_errors_of_the_environment_are_said():
    with pytest.raises(ValueError, match=r'info\["messages"\] must be a list'):
        make("Chat").reset()
    env = make("Guess")
    env.reset(options={"index": 0})
    with pytest.raises(ValueError, match=r"step\('four'\) raised ValueError: invalid .*test_plain_env.py, line"):
        env.step("four")


def test_an_action_outside_a_small_space_is_said_once(caplog: pytest.LogCaptureFixture):
    env = make("Guess")
    env.inner.unwrapped.action_space = Text(1, charset="12")
    env.name = "PlainOnce-v0"
    env.reset(options={"index": 0})
    env.step("5")
    env.reset(options={"index": 1})
    env.step("5")
    assert [record.message.startswith("PlainOnce-v0: its action_space") for record in caplog.records] == [True]


def test_options_go_to_whom_they_are_for():
    env = make("Guess", max_steps=1, system_prompt="Be brief.")
    _, info = env.reset(options={"index": 0})
    assert info["messages"][0] == {"role": "system", "content": "Be brief."} and env.max_steps == 1
    with pytest.raises(TypeError, match="nonsense"):
        make("Guess", nonsense=1)


def test_every_agent_plays_it():
    found = oreo_envs.evaluate(lambda messages: "4", "PlainGuess-v0", split="test", episodes=4)
    assert len(found.rows) == 4 and all(row.steps <= 4 for row in found.rows)


def test_an_environment_of_twenty_lines_keeps_its_splits_apart():
    class Sums(oreo_envs.ProceduralEnv):
        name = "sums"

        def draw(self, rng: Any) -> tuple[str, str]:
            a, b = rng.integers(1, 99, 2).tolist()
            return f"{a} + {b}?", str(a + b)

        def solve(self, question: str, answer: str, rng: Any) -> str:
            return f"#### {answer}"

    questions = [{Sums(split=s).reset(options={"index": i})[0] for i in range(50)} for s in Sums.splits]
    assert not questions[0] & questions[1] and not questions[0] & questions[2] and not questions[1] & questions[2]
    env = Sums()
    _, info = env.reset(options={"index": 5})
    assert info["task_id"] == "sums/train/5" and env.demonstration(5).info["success"] is True
    assert env.canonical("18.0") == env.canonical("$18")
