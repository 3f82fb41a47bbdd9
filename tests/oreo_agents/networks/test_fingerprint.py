"""Networks with equal weights that compute something else: neither log-probabilities nor checkpoints are shared."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from tiny_models import draw_episodes, make_model
from transformers import LlamaForCausalLM

from oreo_agents.networks.policy import CausalPolicy
from oreo_algos import EpisodeBuffer, Models, TrainerConfig, train
from oreo_algos.algos import Sft
from oreo_algos.storage.fingerprint import policy_summary
from oreo_algos.training.reference import reference_logprobs


def make_policy(**settings: object) -> CausalPolicy:
    model = make_model("llama")
    config = copy.deepcopy(model.config)
    config.update(settings)
    other = LlamaForCausalLM(config)
    other.load_state_dict(model.state_dict())
    return CausalPolicy(other)


OTHER_SETTINGS = pytest.mark.parametrize(
    "settings",
    [
        {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}},
        {"rms_norm_eps": 1e-2},
        {"hidden_act": "gelu"},
    ],
    ids=lambda settings: next(iter(settings)),
)


@pytest.fixture
def buffer(tmp_path) -> EpisodeBuffer:
    EpisodeBuffer(draw_episodes(12)).save(tmp_path / "buffer")
    return EpisodeBuffer.load(tmp_path / "buffer")


@OTHER_SETTINGS
def test_references_with_equal_weights_and_other_settings_have_rows_of_their_own(settings: dict, buffer: EpisodeBuffer):
    first = reference_logprobs(make_policy(), buffer, buffer, bf16=False)
    other = reference_logprobs(make_policy(**settings), buffer, buffer, bf16=False)
    assert len(list(buffer.folder.glob("ref-*.parquet"))) == 2
    fresh = reference_logprobs(make_policy(**settings), buffer[:], buffer, bf16=False)
    assert all(map(np.array_equal, other, fresh))
    assert not all(np.allclose(one, two, atol=1e-4) for one, two in zip(other, first, strict=True))


def test_a_checkpoint_is_not_continued_by_a_policy_with_other_settings(buffer: EpisodeBuffer, tmp_path):
    algorithm, folder = Sft(policy_lr=1e-3), tmp_path / "run"
    train(algorithm, Models(make_policy()), buffer, TrainerConfig(), folder)
    train(algorithm, Models(make_policy()), buffer, TrainerConfig(), folder)
    other = make_policy(rope_parameters={"rope_type": "default", "rope_theta": 100.0})
    with pytest.raises(ValueError, match="belongs to a run with another configuration or buffer"):
        train(algorithm, Models(other), buffer, TrainerConfig(), folder)


def test_rounding_and_randomness_change_no_summary():
    policy, [episode] = make_policy(), draw_episodes(1)
    summary = policy_summary(policy, episode)
    score = policy.score
    policy.score = lambda batch: dataclasses.replace(score(batch), logprobs=score(batch).logprobs * (1 + 1e-6))  # type: ignore[method-assign]
    state = torch.get_rng_state()
    torch.rand(3)
    assert policy_summary(policy, episode) == summary
    torch.set_rng_state(state)
    assert policy_summary(policy, episode) == summary and torch.equal(torch.get_rng_state(), state)
