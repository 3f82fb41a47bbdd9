"""`oreo_envs.evaluate`: every task once, whatever the agent is."""

import asyncio
import threading

import gymnasium as gym
import pytest
from env_samples import GSM8K_ROWS

import oreo_envs
from oreo_envs import evaluate

pytestmark = pytest.mark.usefixtures("data_folder")

ANSWERS = [row["answer"].rpartition("#### ")[2] for row in GSM8K_ROWS]
GAMES = {"split": "valid_seen", "expert": True}


def expert(messages, info):
    return info["walkthrough"][info["step"]]


async def slow_expert(messages, info):
    await asyncio.sleep(0.001 * (info["index"] % 3))
    return expert(messages, info)


class Player:
    def __init__(self):
        """Count threads."""
        self.threads = set()

    def __call__(self, messages, info):
        """Play by the book."""
        self.threads.add(threading.get_ident())
        return expert(messages, info)


@pytest.mark.parametrize("num_envs", [1, 4, 100])
@pytest.mark.parametrize("agent", [expert, slow_expert, Player()], ids=["sync", "async", "object"])
def test_every_task_of_a_split_is_played_exactly_once(agent, num_envs):
    result = evaluate(agent, "oreo/ALFWorld-v0", num_envs=num_envs, **GAMES)
    assert [row.index for row in result.rows] == list(range(6)) and len(result.conversations) == 6
    assert result.success_rate == 1.0 and result.interval == pytest.approx((0.6097, 1.0), abs=1e-4)
    assert all(row.reward == 1.0 and row.error is None and row.info["task_type"] in row.task_id for row in result.rows)
    row = result.rows[0]
    turns = [message["content"] for message in row.messages if message["role"] == "assistant"]
    assert len(turns) == row.steps


def test_a_right_answer_in_prose_is_one_call_and_right():
    """The loop in the README once asked 256 times and failed it."""
    calls = []

    def agent(messages):
        calls.append(messages[-1]["content"])
        return f"The answer is {ANSWERS[len(calls) - 1]}."

    result = evaluate(agent, "oreo/GSM8K-v0", split="test")
    assert len(calls) == len(GSM8K_ROWS) and result.success_rate == 1.0
    assert [(row.steps, row.answer, row.truncated) for row in result.rows] == [(1, answer, False) for answer in ANSWERS]
    assert str(result).startswith("oreo/GSM8K-v0 test: 4 of 4 tasks solved, 100.0% [51.")


def test_an_agent_may_write_its_answer_part_by_part():
    def agent(messages):
        return "So it is 7.\n" if messages[-1]["role"] == "user" else "#### 7"

    result = evaluate(agent, "oreo/GSM8K-v0", split="test", step_by_step=True)
    assert [row.success for row in result.rows] == [True, False, False, False]
    assert {row.steps for row in result.rows} == {2}
    # Near miss: taken as a whole, its first part is all that it says.
    assert {row.steps for row in evaluate(agent, "oreo/GSM8K-v0", split="test").rows} == {1}


@pytest.mark.parametrize("num_envs", [1, 3])
def test_what_an_agent_raises_is_reported_with_its_task(num_envs):
    def agent(messages, info):
        if info["index"] == 1:
            raise KeyError("no such model")
        return None if info["index"] == 2 else expert(messages, info)

    async def later(messages, info):
        return agent(messages, info)

    for one in (agent, later):
        result = evaluate(one, "oreo/ALFWorld-v0", num_envs=num_envs, **GAMES)
        assert [row.success for row in result.rows] == [True, False, False, True, True, True]
        assert list(result.errors.values()) == [
            "KeyError: 'no such model'",
            "TypeError: an action is a str, got NoneType: None",
        ]
        assert result.rows[1].messages
        told = "; 2 ended in an error and are not counted, the first: KeyError: 'no such model'"
        assert str(result).endswith(told)


def test_a_part_of_a_split_is_drawn_and_never_twice():
    drawn = [evaluate(expert, "oreo/ALFWorld-v0", episodes=3, seed=seed, **GAMES) for seed in (0, 0, 1, 2)]
    indices = [[row.index for row in result.rows] for result in drawn]
    assert all(len(set(found)) == 3 for found in indices) and indices[0] == indices[1]
    assert len({tuple(found) for found in indices}) > 1


def test_tasks_without_end_need_a_number():
    for much in ({"episodes": 10**9}, {"episodes": 2, "episodes_per_task": 10**9}):
        with pytest.raises(ValueError, match=r"at most 10000000 episodes can be played at once"):
            evaluate(lambda messages: "#### 1", "oreo/Arithmetic-v0", split="test", **much)
    with pytest.raises(ValueError, match=r"made without end here: say how many .* episodes="):
        evaluate(lambda messages: "", "oreo/Arithmetic-v0", split="test")
    result = evaluate(lambda messages: "#### 1", "oreo/Arithmetic-v0", split="test", episodes=5)
    assert [row.index for row in result.rows] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"env_id": "oreo/GSM8K-v0", "split": "test", "episodes": 5}, "split 'test' has 4 tasks"),
        ({"env_id": "oreo/GSM8K-v0", "split": "test", "num_envs": 0}, "num_envs must be an integer >= 1, got 0"),
        ({"env_id": "CartPole-v1", "split": "test"}, r"CartPole-v1: actions are Discrete\(2\), and a policy"),
        ({"env_id": "oreo/GSM8K-v0", "split": "test", "order": "shuffled"}, "order='shuffled' has no effect"),
        ({"env_id": "oreo/GSM8K-v0", "split": "test", "episodes_per_task": 0}, "episodes_per_task must be an integer"),
        ({"env_id": "oreo/GSM8K-v0", "split": "test", "step_by_step": 1}, "step_by_step must be True or False"),
    ],
)
def test_what_cannot_be_played_is_named(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        evaluate(lambda messages: "", **arguments)


def test_a_misspelt_argument_is_named_with_the_closest():
    with pytest.raises(TypeError, match=r"neither evaluate nor .* argument 'num_env'; did you mean 'num_envs'\?"):
        evaluate(lambda messages: "", "oreo/GSM8K-v0", split="test", num_env=2)
    with pytest.raises(TypeError, match="GSM8KEnv has no argument 'max_step'; did you mean 'max_steps'"):
        evaluate(lambda messages: "", "oreo/GSM8K-v0", split="test", max_step=2)


def test_it_works_inside_a_running_loop():
    async def notebook():
        return evaluate(slow_expert, "oreo/ALFWorld-v0", **GAMES)

    assert asyncio.run(notebook()).success_rate == 1.0


def test_a_default_of_an_agent_is_left_alone():
    def agent(messages, temperature=0.7):
        assert temperature == 0.7
        return "#### 7"

    def informed(messages, *, info):
        return f"#### {info['index'] + 7}"

    assert evaluate(agent, "oreo/GSM8K-v0", split="test").rows[0].success
    assert evaluate(informed, "oreo/GSM8K-v0", split="test").errors == {}


def test_wrappers_of_the_environment_and_its_options_hold():
    result = evaluate(expert, "oreo/ALFWorld-v0", max_episode_steps=2, **GAMES)
    assert all(row.truncated and row.steps == 2 and not row.success for row in result.rows)
    assert gym.spec("oreo/ALFWorld-v0").max_episode_steps is None and oreo_envs.Evaluation is type(result)


@pytest.mark.parametrize("num_envs", [1, 3])
def test_what_a_plain_function_returns_is_awaited(num_envs):
    loops = set()

    async def ask(messages, info):
        loops.add(asyncio.get_running_loop())
        return await slow_expert(messages, info)

    settings = {"path": "generated", "episodes": 6, "num_envs": num_envs, **GAMES}
    result = evaluate(lambda messages, info: ask(messages, info), "oreo/ALFWorld-v0", **settings)
    assert result.success_rate == 1.0 and not result.errors
    assert len(loops) == 1  # clients keep connections in the loop that they were first used in


async def _fails(messages):
    raise RuntimeError("no answer")


def test_what_an_awaited_result_raises_ends_its_task():
    result = evaluate(lambda messages: _fails(messages), "oreo/Countdown-v0", split="test", episodes=3)
    assert list(result.errors.values()) == ["RuntimeError: no answer"] * 3


@pytest.mark.parametrize(
    ("agent", "seed", "message"),
    [
        ("a model's name", 0, 'an agent is called with messages and returns its action, got "a model\'s name"'),
        (expert, -1, "seed must be an integer >= 0, got -1"),
        (expert, "x", "seed must be an integer, got 'x'"),
    ],
)
def test_what_nobody_can_play_with_is_refused_before_a_task_is_played(agent, seed, message):
    with pytest.raises(ValueError, match=message):
        evaluate(agent, "oreo/Countdown-v0", split="test", episodes=3, seed=seed)


def test_several_episodes_of_a_task_count_by_their_task():
    """Two tasks are always solved, one half of the time, one never."""
    rates = {0: [1, 1], 1: [1, 1], 2: [1, 0], 3: [0, 0]}
    asked = {index: list(solved) for index, solved in rates.items()}

    def agent(messages, info):
        return f"#### {ANSWERS[info['index']] if asked[info['index']].pop() else 31337}"

    result = evaluate(agent, "oreo/GSM8K-v0", split="test", episodes_per_task=2)
    assert result.success_rate == 5 / 8 and len(result.rows) == 8 and len(result.conversations) == 4
    assert (result.pass_at(1), result.pass_at(2)) == (5 / 8, 3 / 4)
    assert str(result).startswith("oreo/GSM8K-v0 test: 5 of 8 episodes of 4 tasks solved, 62.5% [")
    # By hand: .234 * 4 * 3 / .6875 = 4.09 effective episodes, as tasks differ much.
    assert result.interval == pytest.approx((0.2222, 0.9068), abs=1e-4)
    with pytest.raises(ValueError, match=r"pass_at\(3\) needs 3 counted episodes"):
        result.pass_at(3)


def test_tasks_that_are_alike_count_by_their_episodes():
    asked = []

    def agent(messages, info):
        asked.append(info["index"])
        return f"#### {ANSWERS[info['index']] if len(asked) <= 4 else 31337}"

    result = evaluate(agent, "oreo/GSM8K-v0", split="test", episodes_per_task=2)
    assert result.success_rate == 0.5 and result.interval == pytest.approx((0.2152, 0.7848), abs=1e-4)


def test_an_agent_may_run_a_loop_of_its_own():
    def agent(messages):
        async def ask():
            return "#### 7"

        return asyncio.run(ask())

    for num_envs in (1, 3):
        assert evaluate(agent, "oreo/GSM8K-v0", split="test", num_envs=num_envs).errors == {}


def test_one_at_a_time_is_played_where_the_caller_is():
    threads = set()
    evaluate(lambda messages: threads.add(threading.get_ident()) or "", "oreo/GSM8K-v0", split="test")
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("num_envs", [1, 3])
def test_a_break_by_the_user_ends_at_once(num_envs):
    calls = []

    def agent(messages):
        calls.append(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(agent, "oreo/Arithmetic-v0", split="test", episodes=500, num_envs=num_envs)
    assert len(calls) <= num_envs


def test_a_bar_is_shown_when_asked_for(capsys):
    evaluate(lambda messages: "#### 7", "oreo/GSM8K-v0", split="test")
    assert capsys.readouterr().err == ""
    evaluate(lambda messages: "#### 7", "oreo/GSM8K-v0", split="test", progress=True)
    assert "1 of 4 solved" in capsys.readouterr().err


async def _cancelled(messages):
    raise asyncio.CancelledError


class _Unspeakable(Exception):
    def __str__(self):
        """Nobody can read this one."""
        raise RuntimeError


@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.parametrize(
    ("agent", "error"),
    [
        (lambda messages: next(iter([])), "StopIteration: "),
        (_cancelled, "CancelledError: "),
        (lambda messages: _raised(asyncio.CancelledError("late")), "CancelledError: late"),
        (lambda messages: _raised(_Unspeakable()), "_Unspeakable"),
        (lambda messages: None, "TypeError: an action is a str, got NoneType: None"),
        (lambda messages: b"#### 1", "TypeError: an action is a str, got bytes: b'#### 1'"),
    ],
    ids=["exhausted", "cancelled", "cancels", "unspeakable", "none", "bytes"],
)
def test_whatever_an_agent_raises_or_says_ends_its_task_alone(agent, error, num_envs):
    """What an iterator raises at its end once stopped a loop for good, and a cancellation the whole evaluation."""
    result = evaluate(agent, "oreo/GSM8K-v0", split="test", num_envs=num_envs)
    assert [row.error for row in result.rows] == [error] * len(GSM8K_ROWS)


def _raised(error):
    raise error


def test_an_agent_may_change_what_it_was_given():
    def agent(messages, info):
        messages.clear()
        info.clear()
        return "#### 7"

    row = evaluate(agent, "oreo/GSM8K-v0", split="test").rows[0]
    [(message, start, end)] = row.spans
    assert row.messages[message]["role"] == "assistant" and row.messages[message]["content"][start:end] == "#### 7"
