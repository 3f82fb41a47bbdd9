"""The bookkeeping of TextEnv, seen through a toy environment with turns."""

import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

from oreo_envs.base import Opening, Outcome, TextEnv


class Doors(TextEnv):
    """Three doors; "open <index>" wins, "give up" loses, all else is answered."""

    splits = ("train", "test")
    num_tasks = 3

    def __init__(self, max_steps=4, max_chars=60, split="train"):
        """Set limits that tests can reach."""
        super().__init__(split=split, max_steps=max_steps, max_chars=max_chars)
        self.knocks = 0

    def _open(self, index):
        self.knocks = 0
        return Opening(f"doors/{index}", "Pick.", ({"role": "user", "content": "Pick."},))

    def _index_of(self, task_id):
        return {f"doors/{i}": i for i in range(3)}.get(task_id)

    def _task_ids(self):
        return [f"doors/{i}" for i in range(3)]

    def _respond(self, action):
        self.knocks += 1
        if action == f"open {self._index}":
            return Outcome("Gold!", 1.0, True, {"success": True})
        if action == "give up":
            return Outcome("", 0.0, True)
        return Outcome(f"{self.knocks}?")

    def _get_inner(self):
        return self.knocks

    def _set_inner(self, inner):
        self.knocks = inner


def test_turns_alternate_in_the_messages():
    env = Doors()
    assert env.reset(options={"index": 2})[0] == "Pick."
    observation, reward, terminated, truncated, info = env.step("knock")
    assert (observation, reward, terminated, truncated) == ("1?", 0.0, False, False)
    observation, reward, terminated, truncated, info = env.step("open 2")
    assert (observation, reward, terminated, truncated) == ("Gold!", 1.0, True, False)
    assert [(m["role"], m["content"]) for m in info["messages"]] == [
        ("user", "Pick."),
        ("assistant", "knock"),
        ("user", "1?"),
        ("assistant", "open 2"),
        ("user", "Gold!"),
    ]
    assert {k: v for k, v in info.items() if k != "messages"} == {
        "task_id": "doors/2",
        "index": 2,
        "split": "train",
        "step": 2,
        "success": True,
        "answer": None,
    }


def test_the_step_limit_truncates_only_an_unfinished_episode():
    env = Doors(max_steps=2)
    env.reset(seed=0)
    assert env.step("a")[2:4] == (False, False)
    assert env.step("b")[2:4] == (False, True)
    env.reset(seed=0)
    env.step("a")
    assert env.step("give up")[2:4] == (True, False)


def test_an_action_that_was_cut_off_is_not_judged_and_ends_the_episode():
    env = Doors()
    env.reset(options={"index": 2})
    env.step("knock")
    observation, reward, terminated, truncated, info = env.cut_off("open 2")
    assert (observation, reward, terminated, truncated) == ("", 0.0, False, True)
    assert info["messages"][-1] == {"role": "assistant", "content": "open 2"}
    assert (info["success"], info["step"], env.knocks) == (False, 2, 1)
    with pytest.raises(ResetNeeded, match="is over"):
        env.cut_off("open 2")
    with pytest.raises(ResetNeeded, match="is over"):
        env.step("open 2")
    env.reset(seed=0)
    with pytest.raises(TypeError, match="an action is a str"):
        env.cut_off(None)


def test_text_over_the_limit_truncates_and_is_not_judged():
    env = Doors(max_chars=10)
    env.reset(options={"index": 0})
    observation, reward, terminated, truncated, _ = env.step("open 0" + " " * 5)
    assert (observation, reward, terminated, truncated) == ("", 0.0, False, True)
    assert env.knocks == 0


def test_infos_share_nothing():
    env = Doors()
    _, first = env.reset(seed=0)
    with pytest.raises(TypeError, match=r"read-only: change a copy of it, dict\(message\)"):
        first["messages"][0]["content"] = "spoilt"
    dict(first["messages"][0])["content"] = "spoilt"
    first["messages"].append("junk")
    info = env.step("a")[4]
    assert [m["content"] for m in info["messages"]] == ["Pick.", "a", "1?"]


def test_a_restored_state_continues_as_the_original_did():
    env = Doors()
    env.reset(options={"index": 1})
    env.step("a")
    state = env.clone_state()
    lost = [env.step(action) for action in ("b", "give up")]
    env.restore_state(state)
    won = env.step("open 1")
    assert won[1] == 1.0 and won[4]["step"] == 2
    env.restore_state(state)
    assert [env.step(action) for action in ("b", "give up")] == lost
    other = Doors()
    other.restore_state(state)
    assert other.step("open 1") == won


def test_a_task_is_chosen_by_index_id_or_seed():
    env = Doors()
    assert env.reset(options={"index": 1})[1]["task_id"] == "doors/1"
    assert env.reset(options={"task_id": "doors/2"})[1]["index"] == 2
    drawn = [env.reset(seed=seed)[1]["index"] for seed in range(20)]
    assert drawn == [env.reset(seed=seed)[1]["index"] for seed in range(20)]
    assert set(drawn) == {0, 1, 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"indx": 1}, r"unknown reset option 'indx'; did you mean 'index'\?"),
        ({"index": 3}, r"task index 3 is out of range: split 'train' takes indices >= 0 and < 3"),
        ({"index": -1}, r"task index -1 is out of range"),
        ({"index": 1.5}, r"a task index must be an integer, got 1.5"),
        ({"index": True}, r"a task index must be an integer, got True"),
        ({"index": None}, r"a task index must be an integer, got None"),
        ({"index": 10**30}, r"task index 10+ is out of range: split 'train' takes indices >= 0 and < 3"),
        (
            {"task_id": "door/1"},
            r"unknown task_id 'door/1' in split 'train'; did you mean 'doors/1'\?",
        ),
        ({"task_id": 7}, r"unknown task_id 7"),
        ({"index": 1, "task_id": "doors/1"}, r"'index' or 'task_id', not both"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        Doors().reset(options=options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "tset"}, r"unknown split 'tset'; did you mean 'test'\?; known: train, test"),
        ({"max_steps": 0}, r"max_steps must be an integer >= 1, got 0"),
        ({"max_chars": True}, r"max_chars must be an integer >= 1, got True"),
    ],
)
def test_a_wrong_argument_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Doors(**arguments)


def test_actions_outside_an_episode_are_refused():
    env = Doors()
    with pytest.raises(ResetNeeded, match="no task has been started"):
        env.step("a")
    with pytest.raises(ResetNeeded, match="no task has been started"):
        env.clone_state()
    env.reset(options={"index": 0})
    with pytest.raises(TypeError, match="an action is a str, got bytes"):
        env.step(b"open 0")
    env.step("give up")
    with pytest.raises(ResetNeeded, match="the episode of doors/0 is over"):
        env.step("a")


def test_an_environment_without_solutions_says_so():
    with pytest.raises(NotImplementedError, match="Doors has no demonstrations"):
        Doors().demonstration(0)
    with pytest.raises(ValueError, match="split 'test' is held out"):
        Doors(split="test").demonstration(0)


def test_the_toy_keeps_gymnasiums_contract():
    check_env(Doors(), skip_render_check=True)
