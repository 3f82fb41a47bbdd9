import numpy as np
import pytest
import torch

from oreo_algos.batch import collate


def test_padding_is_on_the_right_and_masked_everywhere(make_episode):
    short = make_episode([-1, 0], [1.0])
    long = make_episode([-1, 0, -1, 1], [0.0, 0.5])
    batch = collate([short, long])
    assert batch.tokens.tolist() == [[1, 2, 0, 0], [1, 2, 3, 4]]
    assert batch.step_id.tolist() == [[-1, 0, -1, -1], [-1, 0, -1, 1]]
    assert batch.attention.tolist() == [[True, True, False, False], [True] * 4]
    assert batch.loss_mask.tolist() == [[False, True, False, False], [False, True, False, True]]
    assert batch.rewards.tolist() == [[1.0, 0.0], [0.0, 0.5]]
    assert batch.step_mask.tolist() == [[True, False], [True, True]]
    assert batch.ref_logprobs is None
    assert batch.tokens.dtype == batch.step_id.dtype == torch.int64
    assert batch.rewards.dtype == torch.float32


def test_the_loss_mask_hides_tokens_but_not_actions(make_episode):
    episode = make_episode([-1, 0, 0, -1, 1], [0.0, 1.0], loss_mask=[True, False, True, True, True])
    batch = collate([episode])
    assert batch.loss_mask.tolist() == [[False, False, True, False, True]]
    assert batch.action_mask.tolist() == [[False, True, True, False, True]]
    assert batch.num_loss_tokens == 2
    assert batch.num_action_tokens == 3


def test_every_row_is_its_episode(random_episodes):
    episodes = random_episodes(20)
    logprobs = [-np.arange(episode.num_tokens, dtype=np.float32) for episode in episodes]
    batch = collate(episodes, ref_logprobs=logprobs)
    assert len(batch) == 20
    for row, (episode, reference) in enumerate(zip(episodes, logprobs, strict=True)):
        tokens, steps = episode.num_tokens, episode.num_steps
        assert batch.tokens[row, :tokens].tolist() == episode.tokens.tolist()
        assert batch.step_id[row, :tokens].tolist() == episode.step_id.tolist()
        assert batch.rewards[row, :steps].tolist() == episode.rewards.tolist()
        assert batch.ref_logprobs[row, :tokens].tolist() == reference.tolist()
        assert not batch.attention[row, tokens:].any()
        assert not batch.step_mask[row, steps:].any()


@pytest.mark.parametrize("index", [slice(1, 3), [2, 0], torch.tensor([3, 3]), torch.arange(5) > 2])
def test_rows_index_all_fields_alike(index, random_episodes):
    batch = collate(random_episodes(5))
    chosen = batch.rows(index)
    assert torch.equal(chosen.tokens, batch.tokens[index])
    assert torch.equal(chosen.step_id, batch.step_id[index])
    assert torch.equal(chosen.step_mask, batch.step_mask[index])
    assert chosen.ref_logprobs is None
    assert len(chosen) == len(batch.tokens[index])


def test_moving_a_batch_moves_every_field(make_episode):
    logprobs = [np.zeros(2, np.float32)]
    batch = collate([make_episode([-1, 0], [1.0], info={"weight": 2.0})], ref_logprobs=logprobs, extra=["weight"])
    moved = vars(batch.to("meta"))
    assert {tensor.device.type for tensor in [*moved.pop("extra").values(), *moved.values()]} == {"meta"}


def test_no_episode_is_an_error():
    with pytest.raises(ValueError, match="got no episode; a batch needs at least one"):
        collate([])


def test_an_episode_without_tokens_is_an_error_with_the_mend(make_episode):
    text = make_episode([], [1.0], tokens=[], task_id="gsm8k-7")
    with pytest.raises(ValueError, match=r"episode 1 \(task 'gsm8k-7'\) has no tokens yet; .*`oreo data encode`"):
        collate([make_episode([-1, 0], [1.0]), text])


def test_reference_logprobs_of_other_lengths_are_an_error(make_episode):
    with pytest.raises(ValueError, match=r"the episodes' lengths \[2\], got \[3\]"):
        collate([make_episode([-1, 0], [1.0])], ref_logprobs=[np.zeros(3, np.float32)])


def test_what_was_not_asked_for_is_said_with_what_to_write(make_episode):
    batch = collate([make_episode([-1, 0], [1.0], info={"weight": 2.0})], extra=["weight"])
    for one in (batch, batch.rows([0]), batch.to("cpu")):
        with pytest.raises(KeyError) as refused:
            one.extra["task"]
        assert "batch.extra has no 'task'" in str(refused.value) and "extra = ('weight', 'task')" in str(refused.value)
    assert (
        batch.extra.get("task") is None
        and "task" not in batch.extra
        and not collate([make_episode([-1, 0], [1.0])]).extra
    )
