"""Rollouts: what is written down is what was generated and scored, and can be encoded again."""

import numpy as np
import pytest
import torch
from short_talks import CHAT, DIALOGUE_ENV, FORMATS, PLAIN, QUESTION_ENV, make_policy, maker, play

from oreo_agents.episodes.generate import Sampling
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.rollout import rollout
from oreo_agents.episodes.texts import encode_episode
from oreo_agents.networks import packed_weights
from oreo_algos.batch import collate

pytestmark = pytest.mark.usefixtures("short_talks")


# What really was generated.


@FORMATS
def test_tokens_and_logprobs_of_a_turn_are_those_that_were_generated(prompt_format, record):
    episodes = play(QUESTION_ENV, prompt_format, range(12))
    assert len(episodes) == 12
    for slot, episode in episodes.items():
        prompt, sample = next(
            call
            for call in record
            if call[0] == prompt_format.opening([{"role": "user", "content": "n" * (slot % 5 + 1)}])
            and call[1].tokens[: episode.num_action_tokens] == episode.tokens[episode.step_id >= 0].tolist()
        )
        kept = episode.num_action_tokens
        assert episode.tokens.tolist() == prompt + sample.tokens[:kept]
        assert episode.behavior_logprobs.tolist() == pytest.approx([0.0] * len(prompt) + sample.logprobs[:kept])


@FORMATS
def test_two_turns_hold_the_generated_tokens_with_the_observation_between(prompt_format, record):
    end = prompt_format.end_of_turn
    policy = make_policy()
    finished = 0
    for slot, episode in play(DIALOGUE_ENV, prompt_format, range(20), policy=policy, max_new_tokens=200).items():
        opening = prompt_format.opening([{"role": "user", "content": f"say {slot}"}])
        first = next(sample for prompt, sample in record if prompt == opening)
        if not first.ended:
            assert episode.truncated and episode.num_steps == 1
            continue
        between = prompt_format.next_turn("and then?")
        second = next(sample for prompt, sample in record if prompt == opening + first.tokens + between)
        finished += 1
        assert first.tokens[-1] in prompt_format.end_ids and end in prompt_format.end_ids
        assert episode.tokens.tolist() == opening + first.tokens + between + second.tokens
        lengths = (len(opening), len(first.tokens), len(between), len(second.tokens))
        expected = [k for k, n in zip((-1, 0, -1, 1), lengths, strict=True) for _ in range(n)]
        assert episode.step_id.tolist() == expected
        assert not episode.behavior_logprobs[episode.step_id < 0].any()
    assert finished >= 3


@FORMATS
@pytest.mark.parametrize("env_id", [QUESTION_ENV, DIALOGUE_ENV])
def test_behaviour_logprobs_equal_the_policys_scores_at_temperature_one(prompt_format, env_id):
    policy = make_policy()
    episodes = list(play(env_id, prompt_format, range(10), policy=policy, max_new_tokens=60).values())
    scores = policy.score(collate(episodes)).logprobs
    for row, episode in enumerate(episodes):
        assert scores[row, : episode.num_tokens].tolist() == pytest.approx(episode.behavior_logprobs.tolist(), abs=2e-4)


def test_the_policy_reads_each_token_of_two_turns_once():
    policy, read = make_policy(), list[int]()
    assert policy.resumes  # tried once

    def note(module, arguments, keywords, output) -> None:
        mask = keywords["attention_mask"]
        mask = mask[:, 0, -1] if mask.ndim == 4 else mask  # what the last token attends to
        read.append(int(mask[:, -arguments[0].shape[1] :].sum()))

    policy.plain.register_forward_hook(note, with_kwargs=True)
    episodes = list(play(DIALOGUE_ENV, PLAIN, range(20), policy=policy, max_new_tokens=200).values())
    assert sum(episode.num_steps == 2 for episode in episodes) >= 3
    # The last token of a transcript says nothing more.
    assert sum(read) == sum(episode.num_tokens - 1 for episode in episodes)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN here")
def test_weights_are_laid_out_once_for_all_turns(monkeypatch):
    policy, laid_out = make_policy(), []
    before = play(DIALOGUE_ENV, PLAIN, range(8), policy=policy, max_new_tokens=40)
    monkeypatch.setattr(packed_weights, "_SMALL", 1)
    original = packed_weights._laid_out
    monkeypatch.setattr(packed_weights, "_laid_out", lambda weight: laid_out.append(1) or original(weight))
    episodes = play(DIALOGUE_ENV, PLAIN, range(8), policy=policy, max_new_tokens=40)
    assert any(episode.num_steps == 2 for episode in episodes.values())
    assert len(laid_out) == sum(isinstance(module, torch.nn.Linear) for module in policy.modules())
    assert all(np.array_equal(episodes[slot].tokens, before[slot].tokens) for slot in range(8))


def test_equal_seeds_give_equal_episodes_and_other_seeds_do_not():
    first, again, other = (play(QUESTION_ENV, PLAIN, [1, 1, 2], seed=seed) for seed in (5, 5, 6))
    assert all(first[slot].equals(again[slot]) for slot in range(3))
    assert not all(np.array_equal(first[slot].tokens, other[slot].tokens) for slot in range(3))
    assert not np.array_equal(first[0].tokens, first[1].tokens), "samples of one task differ"


@FORMATS
@pytest.mark.parametrize("env_id", [QUESTION_ENV, DIALOGUE_ENV])
def test_a_row_draws_the_same_in_any_batch_order_and_part(env_id: str, prompt_format: PromptFormat):
    policy = make_policy()
    indices = [1, 1, 2, 4, 1, 2, 5]
    numbers = [0, 1, 0, 0, 2, 1, 0]
    whole = play(env_id, prompt_format, indices, policy=policy, seed=5)
    assert len({episode.tokens.tobytes() for episode in whole.values()}) == 7
    again = play(env_id, prompt_format, indices, policy=policy, seed=5, samples=numbers)
    assert all(whole[slot].equals(again[slot]) for slot in range(7))
    for slots, batch_size in ((range(7), 2), ([6, 4, 0, 3], 3), ([5], 1)):
        part = play(
            env_id,
            prompt_format,
            [indices[slot] for slot in slots],
            policy=policy,
            seed=5,
            samples=[numbers[slot] for slot in slots],
            batch_size=batch_size,
        )
        for place, slot in enumerate(slots):
            assert part[place].tokens.tolist() == whole[slot].tokens.tolist()
            assert part[place].behavior_logprobs == pytest.approx(whole[slot].behavior_logprobs, abs=1e-4)


def test_batches_smaller_than_the_tasks_yield_every_slot_once():
    slots = [
        slot
        for slot, _ in rollout(
            maker(QUESTION_ENV), make_policy(), PLAIN, [3] * 7, Sampling(max_new_tokens=4, batch_size=3), seed=0
        )
    ]
    assert sorted(slots) == list(range(7))


# What can be made of the record later.


@FORMATS
@pytest.mark.parametrize(
    ("env_id", "turns"), [(QUESTION_ENV, ["one\ntwo\n\n#### 3"]), (DIALOGUE_ENV, ["Größe 😀", "#### 4"])]
)
def test_encoding_the_text_again_gives_the_recorded_tokens(prompt_format, env_id, turns, script):
    script(prompt_format, *turns)
    episode = play(env_id, prompt_format, [3])[0]
    again = encode_episode(episode, prompt_format)
    # These turns were written with the tokenizer's own choice of tokens, so the second encoding has to agree.
    assert again.tokens.tolist() == episode.tokens.tolist()
    assert again.step_id.tolist() == episode.step_id.tolist()


def test_an_episode_of_one_tokenizer_can_be_encoded_for_another(script):
    script(PLAIN, "hm", "a longer one")
    episode = play(DIALOGUE_ENV, PLAIN, [1])[0]
    other = encode_episode(episode, CHAT)
    script(CHAT, "hm", "a longer one")
    assert other.tokens.tolist() == play(DIALOGUE_ENV, CHAT, [1])[0].tokens.tolist()


def test_sampled_tokens_decode_to_the_messages_whatever_was_sampled():
    for episode in play(QUESTION_ENV, PLAIN, range(30), max_new_tokens=40).values():
        said = PLAIN.decode(episode.tokens[episode.step_id >= 0].tolist())
        assert said == episode.messages[-1]["content"]
