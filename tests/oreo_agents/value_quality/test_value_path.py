"""Where V and the log-ratio are read along an episode, against one forward pass looked at by hand."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tiny_models import draw_episodes, make_episode, make_model

from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import TokenValue
from oreo_agents.value_quality.path import ValuePath, read_paths
from oreo_algos.batch import collate


@pytest.fixture
def value(checkpoint: Callable[[str], str]) -> TokenValue:
    network = TokenValue.from_policy(checkpoint("llama"))
    with torch.no_grad():
        network.model.score.weight.normal_(generator=torch.Generator().manual_seed(0))
    return network


def test_v_is_read_before_each_step_and_before_the_end_token(value):
    """Prompt of 3 tokens, steps of 2 and 3, an observation of 2 between them: before tokens 3, 7 and 9."""
    episode = make_episode([5, 6, 7], [8, 9], [10, 11, 2])
    tokens = [*episode.tokens[:5], 20, 21, *episode.tokens[5:]]
    episode = make_episode([], [], tokens=tokens, step_id=[-1] * 3 + [0] * 2 + [-1] * 2 + [1] * 3, rewards=[0.25, 1.0])
    [path] = read_paths(value, [episode], 8)
    before = value.token_values(collate([episode]))[0].tolist()
    assert path.values.tolist() == pytest.approx([before[3], before[7], before[9]], abs=1e-6)
    assert path.rewards.tolist() == [0.25, 0.0, 1.0]
    assert path.log_ratios.tolist() == [0, 0, 0]
    assert path.advantages.tolist() == pytest.approx([0.25 + before[7] - before[3], before[9] - before[7]], abs=1e-6)


def test_log_ratios_lie_between_the_states_and_the_last_one_is_the_end_tokens(value):
    policy, reference = (CausalPolicy(make_model("llama", seed=seed)) for seed in (0, 1))
    episode = make_episode([5, 6, 7], [8, 9], [10, 11, 2])
    [path] = read_paths(value, [episode], 8, policy=policy, reference=reference)
    scores = [network.score(collate([episode])).logprobs[0] for network in (policy, reference)]
    ratio = (scores[0] - scores[1]).tolist()
    expected = [ratio[3] + ratio[4], ratio[5] + ratio[6], ratio[7]]
    assert path.log_ratios.tolist() == pytest.approx(expected, abs=1e-5)


def test_paths_come_in_the_order_of_the_episodes_whatever_the_batch(value):
    policy, reference = (CausalPolicy(make_model("llama", seed=seed)) for seed in (0, 1))
    episodes = draw_episodes(7)
    alone = [read_paths(value, [episode], 1, policy=policy, reference=reference)[0] for episode in episodes]
    for batch_size in (3, 16):
        together = read_paths(value, episodes, batch_size, policy=policy, reference=reference)
        for one, other in zip(alone, together, strict=True):
            assert one.values == pytest.approx(other.values, abs=1e-5)
            assert one.log_ratios == pytest.approx(other.log_ratios, abs=1e-5)
            assert one.rewards.tolist() == other.rewards.tolist()


def test_a_place_is_the_state_nearest_to_a_share_of_the_steps():
    def states(steps):
        path = ValuePath(*np.zeros((3, steps + 1)))
        return [path.at(place) for place in (0, 0.25, 0.5, 0.75, 1)]

    assert states(1) == [0, 0, 1, 1, 1]
    assert states(4) == [0, 1, 2, 3, 4]
    assert states(6) == [0, 2, 3, 5, 6]
