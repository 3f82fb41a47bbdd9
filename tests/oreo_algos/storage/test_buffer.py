import math

import numpy as np
import pytest

from oreo_algos.storage.buffer import EpisodeBuffer


@pytest.fixture
def buffer(make_episode):
    """Two tasks, of which one has a success and a failure."""
    return EpisodeBuffer(
        [
            make_episode([-1, 0, 0], [1.0], task_id="b"),
            make_episode([-1, 0, -1, 1], [0.0, 0.0], task_id="a", truncated=True),
            make_episode([-1, 0], [0.0], task_id="b", env_id="oreo/Other-v0"),
        ],
        tokenizer_fingerprint="bytes",
        provenance={"seed": 3},
    )


def test_a_number_gives_an_episode_and_anything_else_a_buffer(buffer):
    assert buffer[0] is buffer[np.int64(-3)]
    assert [episode.task_id for episode in buffer] == ["b", "a", "b"]
    for index in (slice(None, None, 2), [0, 2], np.array([0, 2]), np.array([True, False, True])):
        chosen = buffer[index]
        assert [episode.task_id for episode in chosen] == ["b", "b"]
        assert chosen.tokenizer_fingerprint == "bytes"
        assert chosen.provenance == {"seed": 3}
    assert len(buffer[[]]) == 0
    with pytest.raises(IndexError):
        buffer[[3]]
    with pytest.raises(IndexError):
        buffer[3]


def test_tasks_come_in_order_of_first_appearance(buffer):
    assert list(buffer.by_task().items()) == [("b", [0, 2]), ("a", [1])]
    assert buffer.env_ids == ["oreo/Other-v0", "oreo/Test-v0"]


def test_filter_keeps_order_and_fingerprint(buffer):
    failures = buffer.filter(lambda episode: not episode.success)
    assert [episode.task_id for episode in failures] == ["a", "b"]
    assert failures.tokenizer_fingerprint == "bytes"


def test_statistics_by_hand(buffer):
    assert buffer.stats() == {
        "episodes": 3,
        "tasks": 2,
        "mixed_tasks": 1,
        "success_rate": pytest.approx(1 / 3),
        "tokens": 9,
        "action_tokens": 5,
        "steps_mean": pytest.approx(4 / 3),
        "truncated": 1,
    }


def test_an_empty_buffer_has_no_rate():
    stats = EpisodeBuffer([]).stats()
    assert stats["episodes"] == 0
    assert math.isnan(stats["success_rate"])


def test_the_content_hash_sees_episodes_and_order_only(buffer, make_episode):
    again = EpisodeBuffer(list(buffer), tokenizer_fingerprint="other", provenance={"seed": 4})
    assert again.content_hash == buffer.content_hash
    assert buffer[::-1].content_hash != buffer.content_hash
    assert buffer[:2].content_hash != buffer.content_hash
    hashes = {
        EpisodeBuffer([make_episode([-1, 0, 0], [1.0], **change)]).content_hash
        for change in (
            {},
            {"tokens": [1, 2, 4]},
            {"loss_mask": [True] * 3},
            {"loss_mask": [False] * 3},
            {"behavior_logprobs": [0, -1, -1]},
            {"truncated": True},
            {"info": {"seed": 1}},
            {"task_id": "other"},
            {"messages": [{"role": "user", "content": "hi"}]},
        )
    }
    assert len(hashes) == 9


def test_the_content_hash_is_the_same_in_every_release(make_episode):
    """Side files of reference log-probabilities are keyed with it: a change throws them away."""
    buffer = EpisodeBuffer([make_episode([-1, 0, 0], [1.0])])
    assert buffer.content_hash.startswith("3f377ed8ab2cbac9")


def test_joined_buffers_keep_order_and_provenance(buffer):
    joined = EpisodeBuffer.concatenate([buffer[:1], buffer[1:]])
    assert joined.content_hash == buffer.content_hash
    assert joined.provenance == {"seed": 3}
    other = EpisodeBuffer(buffer, tokenizer_fingerprint="bytes", provenance={"seed": 4})
    assert EpisodeBuffer.concatenate([buffer, other]).provenance == {"parts": [{"seed": 3}, {"seed": 4}]}


def test_buffers_of_two_tokenizers_do_not_join(buffer):
    other = EpisodeBuffer(buffer, tokenizer_fingerprint="words")
    with pytest.raises(ValueError, match="tokenizer 'bytes' or were encoded with tokenizer 'words'; encode them"):
        EpisodeBuffer.concatenate([buffer, other])
    with pytest.raises(ValueError, match="text that no tokenizer has encoded or were encoded with tokenizer 'bytes'"):
        EpisodeBuffer.concatenate([buffer, EpisodeBuffer(buffer)])
    with pytest.raises(ValueError, match="got no buffer"):
        EpisodeBuffer.concatenate([])


def test_text_that_none_encoded_is_refused_as_that(buffer, tmp_path):
    EpisodeBuffer(buffer).save(tmp_path / "text")
    with pytest.raises(ValueError, match="text that no tokenizer has encoded, the policy reads 'words'; encode them"):
        EpisodeBuffer.load(tmp_path / "text", tokenizer_fingerprint="words")


@pytest.mark.parametrize("value", [{1, 2}, math.nan])
def test_provenance_must_be_json(value):
    with pytest.raises(ValueError, match="provenance: expected JSON"):
        EpisodeBuffer([], provenance={"bad": value})


def test_a_buffer_says_what_it_holds(buffer):
    assert repr(buffer).startswith("EpisodeBuffer(3 episodes of ['oreo/Other-v0', 'oreo/Test-v0'],")
