import dataclasses
import re

import numpy as np
import pytest

from oreo_algos.episode import Episode

MESSAGES = [{"role": "user", "content": "2+3?"}, {"role": "assistant", "content": "2+3=5\n#### 5"}]


def test_fields_become_read_only_arrays_of_the_stated_types(make_episode):
    episode = make_episode([-1, 0, 1], [0.1, 1], loss_mask=[0, 1, 0], behavior_logprobs=[0, -1, -2])
    assert episode.tokens.dtype == episode.step_id.dtype == np.int32
    assert episode.rewards.dtype == episode.behavior_logprobs.dtype == np.float32
    assert episode.loss_mask.dtype == np.bool_
    with pytest.raises(ValueError, match="read-only"):
        episode.tokens[0] = 7


def test_the_caller_keeps_its_own_array(make_episode):
    tokens = np.array([1, 2, 3], dtype=np.int32)
    episode = make_episode([-1, 0, 0], [1.0], tokens=tokens)
    tokens[0] = 9
    assert episode.tokens.tolist() == [1, 2, 3]


def test_counts_skip_prompt_and_observation(make_episode):
    episode = make_episode([-1, -1, 0, 0, -1, 1], [0.25, 0.5])
    assert episode.num_tokens == 6
    assert episode.num_steps == 2
    assert episode.num_action_tokens == 3
    assert episode.total_reward == 0.75


@pytest.mark.parametrize(
    ("rewards", "info", "success"),
    [
        ([1.0], {}, True),
        ([0.0], {}, False),
        ([1.0], {"success": False}, False),
        ([0.0], {"success": True}, True),
        ([0.05], {}, False),
        ([0.05], {"success": True}, True),
        ([-1.0], {}, False),
    ],
)
def test_success_is_the_recorded_one_or_a_return_of_1(rewards, info, success, make_episode):
    assert make_episode([-1, 0], rewards, info=info).success is success


def test_success_can_be_said_when_an_episode_is_made_and_stays(make_episode):
    episode = make_episode([-1, 0], [0.05], success=np.bool_(True))
    assert episode.success is True and episode.info == {}
    assert dataclasses.replace(episode, rewards=[0.0]).success is True
    thirds = make_episode([-1, 0, 1, 2], [0.1, 0.2, 0.7])
    assert thirds.success is True  # float32 adds up to 1.0000000149


@pytest.mark.parametrize("said", ["false", 0, 1.0, [True]], ids=repr)
def test_success_is_a_bool_or_refused(said, make_episode):
    for fields in ({"success": said}, {"info": {"success": said}} if said != [True] else {"success": said}):
        with pytest.raises(ValueError, match=r"success.*: expected true or false, whether the task was solved, got"):
            make_episode([-1, 0], [1.0], **fields)


def test_success_said_twice_and_otherwise_is_refused(make_episode):
    with pytest.raises(ValueError, match='success is True and info\\["success"\\] is False; give both alike'):
        make_episode([-1, 0], [1.0], success=True, info={"success": False})


def test_an_episode_without_tokens_keeps_text_and_spans(make_episode):
    episode = make_episode([], [1.0], tokens=[], messages=MESSAGES, action_spans=[(1, 0, 12)])
    assert not episode.encoded
    assert episode.num_steps == 1
    assert episode.num_action_tokens == 0
    index, start, end = episode.action_spans[0]
    assert episode.messages[index]["content"][start:end] == "2+3=5\n#### 5"


def test_numpy_scalars_in_info_become_json_scalars(make_episode):
    info = make_episode([-1, 0], [1.0], info={"seed": np.int64(3), "success": np.bool_(True)}).info
    assert type(info["seed"]) is int
    assert type(info["success"]) is bool


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": [1, 2, 4]},
        {"rewards": [0.5]},
        {"loss_mask": [True, True, True]},
        {"behavior_logprobs": [0, -1, -1]},
        {"terminated": False},
        {"task_id": "other"},
        {"messages": MESSAGES[:1]},
        {"info": {"seed": 1}},
    ],
)
def test_equality_sees_every_field(change, make_episode):
    fields = {"tokens": [1, 2, 3], "step_id": [-1, 0, 0], "rewards": [1.0]}
    episode = make_episode(**fields)
    assert episode.equals(make_episode(**fields))
    assert not episode.equals(make_episode(**(fields | change)))


VALID = {
    "tokens": [5, 6, 7],
    "step_id": [-1, 0, 1],
    "rewards": [0.0, 1.0],
    "terminated": True,
    "truncated": False,
    "task_id": "t",
    "env_id": "e",
    "messages": MESSAGES,
    "action_spans": [(1, 0, 6), (1, 6, 12)],
    "info": {},
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": [[5, 6, 7]]}, "tokens: expected one dimension, got shape [1, 3]"),
        ({"tokens": [5, [6], 7]}, "tokens: expected a rectangular array, got [5, [6], 7]"),
        ({"tokens": ["a", "b", "c"]}, "tokens: expected numbers"),
        ({"tokens": None}, "tokens: expected one dimension"),
        ({"tokens": [5, 6.5, 7]}, "tokens[1] is 6.5, which is no int32 value"),
        ({"tokens": [5, 2**31, 7]}, "tokens[1] is 2147483648, which is no int32 value"),
        ({"tokens": [5, -6, 7]}, "tokens: a token id is >= 0, got -6"),
        ({"step_id": [-1, 0]}, "step_id: expected 3 entries, one a token, got 2"),
        ({"step_id": [-2, 0, 1]}, "step_id: expected -1 or the number of an action, got -2"),
        ({"step_id": [0, 0, 1]}, "step_id: the first token has no state before it"),
        ({"step_id": [-1, 1, 0]}, "step_id: actions must follow one another as 0, 1, 2, ..., got"),
        ({"step_id": [-1, 0, 2]}, "got [0 2]"),
        ({"step_id": [-1, 0, 0]}, "step_id: 2 rewards need tokens of as many actions, got 1"),
        ({"step_id": [-1, -1, -1]}, "step_id: 2 rewards need tokens of as many actions, got 0"),
        ({"rewards": []}, "rewards: an episode has at least one action, got an empty array"),
        ({"rewards": [0.0, np.nan]}, "rewards[1] is nan, which is no finite number"),
        ({"rewards": [0.0, 1e300]}, "rewards[1] is 1e+300, which is no finite number"),
        ({"loss_mask": [True]}, "loss_mask: expected 3 entries, one a token, got 1"),
        ({"loss_mask": [0, 1, 2]}, "loss_mask[2] is 2, which is no bool value"),
        ({"behavior_logprobs": [0, 0]}, "behavior_logprobs: expected 3 entries"),
        (
            {"behavior_logprobs": [-0.5, -1, -1]},
            "behavior_logprobs: expected 0 outside actions, got -0.5",
        ),
        ({"behavior_logprobs": [0, -np.inf, -1]}, "behavior_logprobs[1] is -inf, which is no finite number"),
        ({"action_spans": [1, 0, 6]}, "action_spans: expected shape [K, 3], got [3]"),
        ({"action_spans": [(1, 0, 6)]}, "action_spans: expected 2 rows, one a reward, got 1"),
        (
            {"action_spans": [(1, 0, 6), (2, 0, 1)]},
            "action_spans: (2, 0, 1) points outside the 2 messages",
        ),
        (
            {"action_spans": [(1, 0, 6), (1, 6, 13)]},
            "action_spans: (1, 6, 13) lies outside a message of 12 characters",
        ),
        (
            {"action_spans": [(1, 0, 6), (1, 5, 12)]},
            "action_spans: (1, 5, 12) begins before the action in front of it ends",
        ),
        ({"terminated": 1}, "terminated: expected a bool, got 1"),
        ({"truncated": None}, "truncated: expected a bool, got None"),
        ({"task_id": 3}, "task_id: expected text, got 3"),
        ({"env_id": "\ud800"}, "env_id: expected Unicode text without lone surrogates"),
        ({"messages": "hi"}, "messages: expected a list of messages, got 'hi'"),
        ({"messages": [{"role": "user"}]}, "messages: expected the keys 'role' and 'content'"),
        ({"messages": [{"role": "user", "content": None}]}, "messages: content: expected text"),
        ({"info": []}, "info: expected a dict, got []"),
        ({"info": {3: 1}}, "info: expected names as keys, got 3"),
        ({"info": {"a": [1]}}, "info['a']: expected text, a finite number, a bool or None"),
        ({"info": {"a": float("nan")}}, "info['a']: expected text, a finite number"),
    ],
)
def test_a_bad_field_is_named_with_its_value(change, message):
    Episode(**VALID)
    with pytest.raises(ValueError, match=re.escape(message)):
        Episode(**(VALID | change))
