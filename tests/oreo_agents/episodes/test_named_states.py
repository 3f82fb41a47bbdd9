"""Names of a game's states: in `info`, in episodes, in what a baseline takes for one state."""

from dataclasses import replace
from functools import partial

import gymnasium as gym
import numpy as np
import pytest

import oreo_envs  # noqa: F401 (registers the ids)
from oreo_agents.episodes.generate import Sample
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.record import Record
from oreo_agents.networks.tiny import word_tokenizer
from oreo_algos import EpisodeBuffer
from oreo_algos.algos.baselines import baseline_values, states_of

MAKE = partial(gym.make, "oreo/ALFWorld-v0", path="generated", disable_env_checker=True, prompt="question")
FORMAT = PromptFormat(word_tokenizer(MAKE().unwrapped.vocabulary()))


def played(commands: list[str], **options):
    record = Record.begin(MAKE(states=True, **options), 0, 0, FORMAT)
    for command in commands:
        tokens = [*FORMAT.encode(command), FORMAT.end_of_turn]
        record.advance(Sample(tokens, [0.0] * len(tokens), ended=True), FORMAT, 4096)
    return record


def places(count: int) -> list[str]:
    _, info = MAKE().reset(options={"index": 0})
    return [command for command in info["admissible_commands"] if command.startswith("go to")][:count]


@pytest.mark.parametrize("numbers", [{}, {"split": "train_renumbered", "renumber": 1.0}])
def test_two_ways_to_one_state_give_it_one_name(numbers):
    _, start = MAKE(**numbers).reset(options={"index": 0})
    first, second, third = [command for command in start["admissible_commands"] if command.startswith("go to")][:3]
    ways = [[first, third], [second, third], [first, "look", "inventory"]]
    seen = [[record.info["state"], *record.states] for record in (played(way, **numbers) for way in ways)]
    assert seen[0][0] == seen[1][0] != seen[2][0], "the same place, whatever was before"
    assert seen[2][0] == seen[2][2] == seen[2][3], "looking changes nothing"
    assert seen[0][1] == seen[1][1] and len({seen[0][1], seen[0][2], seen[1][2], seen[0][0]}) == 4


def test_episodes_keep_them_and_a_baseline_of_states_takes_them():
    first, second, third = places(3)
    ways = [[first, third, second], [second, third, first]]
    episodes = [played(way, max_steps=3).episode({}) for way in ways]
    assert all(len(str(episode.info["states"]).split()) == episode.num_steps == 3 for episode in episodes)
    assert all("state" not in episode.info for episode in episodes)
    names = [states_of(episode) for episode in episodes]
    assert [a == b for a, b in zip(*names, strict=True)] == [True, False, True]
    episodes[0] = replace(episodes[0], rewards=np.array([0.0, 0.0, 1.0], np.float32))
    values = baseline_values(EpisodeBuffer(episodes), "state")
    assert values(0, episodes[0]).tolist() == values(1, episodes[1]).tolist() == [0.5, 0.5, 0.5]


def test_without_the_option_nothing_is_named():
    env = MAKE()
    _, info = env.reset(options={"index": 0})
    record = Record.begin(env, 0, 0, FORMAT)
    record.advance(Sample([*FORMAT.encode("look"), FORMAT.end_of_turn], [0.0] * 2, ended=True), FORMAT, 4096)
    assert "state" not in info and "states" not in record.episode({}).info


def test_forks_name_their_own_states():
    first, second, _ = places(3)
    record = played([first])
    twin = record.fork()
    for one, command in ((record, second), (twin, "look")):
        tokens = [*FORMAT.encode(command), FORMAT.end_of_turn]
        one.advance(Sample(tokens, [0.0] * len(tokens), ended=True), FORMAT, 4096)
    assert record.states == twin.states and record.info["state"] != twin.info["state"]
