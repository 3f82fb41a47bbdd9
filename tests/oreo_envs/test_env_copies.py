"""Copies and pickles of environments, and the messages that all infos share, on all ids."""

import copy
import json
import pickle

import gymnasium as gym
import pytest
from env_samples import ENV_IDS, OPTIONAL_ENV_IDS, with_optional

import oreo_envs  # noqa: F401 (registers the ids)

pytestmark = pytest.mark.usefixtures("data_folder")

each_env = pytest.mark.parametrize("env_id", with_optional(ENV_IDS, *OPTIONAL_ENV_IDS))


@each_env
def test_an_environment_pickles_without_its_data(env_id):
    """A MATH environment pickled to 3.7 MB."""
    env = gym.make(env_id, order="sequential")
    env.reset()
    env.step("a\n")
    dumped = pickle.dumps(env)
    assert len(dumped) < 20_000
    twin, copied = pickle.loads(dumped), copy.deepcopy(env)
    for name in ("problems", "games"):
        ours = getattr(env.unwrapped, name, None)
        assert getattr(twin.unwrapped, name, None) is ours and getattr(copied.unwrapped, name, None) is ours
    assert env.step("b\n") == twin.step("b\n") == copied.step("b\n")
    assert env.reset() == twin.reset() == copied.reset()


def test_pickled_problems_must_be_the_same_when_they_are_read_again(data_folder):
    env = gym.make("oreo/MATH-v0", split="test")
    dumped = pickle.dumps(env)
    file = data_folder / "math" / "test.jsonl"
    rows = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join(rows[:1]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"test\.jsonl: changed since this math environment was pickled"):
        pickle.loads(dumped)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"test\.jsonl: no longer there; a pickled math environment reads"):
        pickle.loads(dumped)


@each_env
def test_messages_are_plain_to_all_who_read_and_safe_from_all_who_write(env_id):
    env = gym.make(env_id)
    env.reset(options={"index": 0})
    env.step("a\n")
    env.step("b\n")
    messages = env.unwrapped._info({})["messages"]
    plain = [dict(message) for message in messages]
    assert (
        messages == plain == json.loads(json.dumps(messages)) == list(messages) == pickle.loads(pickle.dumps(messages))
    )
    assert isinstance(messages, list) and {type(messages.copy()), type(messages[:]), type(messages * 1)} == {list}
    assert type(copy.deepcopy(messages)) is type(pickle.loads(pickle.dumps(messages))) is list
    assert isinstance(messages[0], dict) and messages[-1:] == plain[-1:]
    for change in (
        lambda m: m.update(content="x"), lambda m: m.pop("content"), lambda m: m.clear(),
        lambda m: m.__setitem__("a", "b"),
        lambda m: m.setdefault("a", "b"), lambda m: m.popitem(), lambda m: m.__delitem__("role"),
        lambda m: m.__ior__({"a": "b"}),
    ):  # fmt: skip
        with pytest.raises(TypeError, match="read-only"):
            change(messages[-1])
    for mine in (copy.deepcopy(messages), pickle.loads(pickle.dumps(messages)), [m | {} for m in messages]):
        mine[-1]["content"] = "mine"
    messages.clear()
    assert env.unwrapped._info({})["messages"] == plain
    twin = copy.deepcopy(env)
    with pytest.raises(TypeError, match="read-only"):
        twin.step("c\n")[4]["messages"][0]["content"] = "x"


def test_messages_of_a_long_episode_are_shared_and_not_copied():
    """They were copied whole at each turn."""
    env = gym.make("oreo/ALFWorld-v0", max_steps=None)
    env.reset(options={"index": 0})
    *_, before = env.step("look")
    for _ in range(200):
        *_, info = env.step("look")
    assert len(before["messages"]) == 4, "who holds a list holds it as it was"
    shared = [ours is theirs for ours, theirs in zip(before["messages"], info["messages"], strict=False)]
    assert len(shared) == 4 and all(shared) and len(info["messages"]) == 404


def test_a_list_that_nobody_holds_is_brought_up_to_date_in_place_of_a_copy():
    """All messages were copied at each turn."""
    env = gym.make("oreo/ALFWorld-v0", max_steps=None).unwrapped
    *_, info = env.reset(options={"index": 0})
    lists = set()
    for _ in range(30):
        *_, info = env.step("look")
        lists.add(id(info["messages"]))
        assert info["messages"] == env._messages
    assert len(lists) == 2


def test_lists_that_are_held_or_were_changed_are_left_alone():
    env = gym.make("oreo/Arithmetic-v0").unwrapped
    held = [env.reset(options={"index": 0})[1]["messages"]]
    expected = [[dict(one) for one in env._messages]]
    for turn in range(12):
        messages = env.step(f"{turn} and\n")[4]["messages"]
        assert messages == env._messages
        if turn % 3:
            held.append(messages)
            expected.append([dict(one) for one in env._messages])
        else:
            getattr(messages, ("pop", "clear", "reverse", "__iadd__")[turn // 3])(*[[{}]] * (turn == 9))
        del messages
    assert held == expected
    state = env.clone_state()
    env.step("more\n")
    env.restore_state(state)
    assert env._info({})["messages"] == expected[-1] == held[-1]
