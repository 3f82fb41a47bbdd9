"""Rollouts: what is written down is what was generated, scored and rewarded."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from tiny_models import CHATML, make_model, make_tokenizer

from oreo_agents.episodes import sampler as sampler_module
from oreo_agents.episodes.generate import Sample, Sampling
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.rollout import RolloutCounts, rollout
from oreo_agents.episodes.texts import encode_episode
from oreo_agents.networks import packed_weights
from oreo_agents.networks.policy import CausalPolicy
from oreo_algos.batch import collate
from oreo_algos.episode import Episode
from oreo_envs.answers import AnswerEnv, Item
from oreo_envs.base import Opening, Outcome, TextEnv

QUESTION_ENV, DIALOGUE_ENV = "oreo_test/Question-v0", "oreo_test/Dialogue-v0"


class QuestionEnv(AnswerEnv):
    """How many letters; the answer is the index."""

    splits: ClassVar[tuple[str, ...]] = ("train",)
    step_delimiters: ClassVar[tuple[str, ...]] = ("\n",)

    def __init__(self, *, split: str = "train", max_steps: int = 8, long: bool = False) -> None:
        """Every other question is long when ``long`` says so."""
        super().__init__(split=split, prompt="question", max_steps=max_steps, max_chars=1000)
        self.long = long

    @property
    def num_tasks(self) -> int:
        return 40

    def _make_item(self, index: int) -> Item:
        question = "a long question " * 40 if self.long and index % 2 else "n" * (index % 5 + 1)
        return Item(f"question/{index}", question, str(index))

    def _index_of(self, task_id: str) -> int | None:
        return None

    def _solution(self, index: int, seed: int) -> tuple[str, dict]:
        return f"#### {index}", {}


class DialogueEnv(TextEnv):
    """Two turns; the second is right when it is longer than the first."""

    splits: ClassVar[tuple[str, ...]] = ("train",)

    def __init__(self, *, split: str = "train", observation: str = "and then?") -> None:
        """Answer the first turn with ``observation``."""
        super().__init__(split=split, max_steps=4, max_chars=10_000)
        self.observation = observation

    @property
    def num_tasks(self) -> int:
        return 40

    def _open(self, index: int) -> Opening:
        return Opening(f"dialogue/{index}", "say", ({"role": "user", "content": f"say {index}"},))

    def _index_of(self, task_id: str) -> int | None:
        return None

    def _respond(self, action: str) -> Outcome:
        if self._num_steps == 1:
            return Outcome(observation=self.observation)
        success = len(self._messages[-1]["content"]) > len(self._messages[-3]["content"])
        return Outcome(reward=float(success), terminated=True, info={"success": success})


@pytest.fixture(scope="module", autouse=True)
def environments() -> Iterator[None]:
    gym.register(QUESTION_ENV, entry_point=QuestionEnv)
    gym.register(DIALOGUE_ENV, entry_point=DialogueEnv)
    yield
    for env_id in (QUESTION_ENV, DIALOGUE_ENV):
        del gym.registry[env_id]


PLAIN = PromptFormat(make_tokenizer())
CHAT = PromptFormat(make_tokenizer(template=CHATML, end_of_turn=True))
FORMATS = pytest.mark.parametrize("prompt_format", [PLAIN, CHAT], ids=["plain", "chatml"])


def make_policy(context: int = 512) -> CausalPolicy:
    return CausalPolicy(make_model("llama", context=context))


def maker(env_id: str, **options: Any) -> Callable[[], gym.Env]:
    return lambda: gym.make(env_id, disable_env_checker=True, **options)


def play(
    env_id: str,
    prompt_format: PromptFormat,
    indices: Sequence[int],
    *,
    policy: CausalPolicy | None = None,
    options: dict | None = None,
    counts: RolloutCounts | None = None,
    seed: int = 0,
    samples: Sequence[int] | None = None,
    **sampling: Any,
) -> dict[int, Episode]:
    limits = {"max_new_tokens": 24, **sampling}
    return dict(
        rollout(
            maker(env_id, **(options or {})),
            policy or make_policy(),
            prompt_format,
            indices,
            Sampling(**limits),
            seed=seed,
            samples=samples,
            counts=counts,
        )
    )


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], Sample]]:
    """Everything that `generate` was asked and answered."""
    calls: list[tuple[list[int], Sample]] = []
    original = sampler_module.generate

    def recording(policy, prompts, *rest, **options):
        samples = original(policy, prompts, *rest, **options)
        calls.extend(
            (list(p), Sample(list(s.tokens), list(s.logprobs), s.ended)) for p, s in zip(prompts, samples, strict=True)
        )
        return samples

    monkeypatch.setattr(sampler_module, "generate", recording)
    return calls


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the policy say given texts, turn by turn; a text that ends in "..." is cut off before its end."""

    def install(prompt_format: PromptFormat, *turns: str) -> None:
        waiting = list(turns)

        def say(policy, prompts, *rest, **options):
            samples = []
            for _ in prompts:
                text = waiting.pop(0)
                cut = text.endswith("...")
                tokens = prompt_format.encode(text.removesuffix("..."))
                tokens = tokens if cut else [*tokens, prompt_format.end_of_turn]
                samples.append(Sample(tokens, [-0.5 - i for i in range(len(tokens))], not cut))
            return samples

        monkeypatch.setattr(sampler_module, "generate", say)

    return install


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


# What the environment made of it.


@FORMATS
def test_spans_cut_the_messages_into_the_texts_of_the_steps(prompt_format, script):
    script(prompt_format, "one\ntwo\n#### 3")
    episode = play(QUESTION_ENV, prompt_format, [3])[0]
    content = episode.messages[-1]["content"]
    assert content == "one\ntwo\n#### 3"
    texts = [episode.messages[m]["content"][a:b] for m, a, b in episode.action_spans.tolist()]
    assert texts == ["one\n", "two\n", "#### 3"]
    for k, text in enumerate(texts):
        assert prompt_format.decode(episode.tokens[episode.step_id == k].tolist()) == text


@pytest.mark.parametrize(("answer", "reward"), [("#### 3", 1.0), ("#### 4", 0.0)])
def test_the_reward_falls_on_the_last_action(script, answer: str, reward: float):
    script(PLAIN, f"one\ntwo\n{answer}")
    episode = play(QUESTION_ENV, PLAIN, [3])[0]
    assert episode.rewards.tolist() == [0.0, 0.0, reward]
    assert episode.terminated and not episode.truncated
    assert episode.info["success"] is bool(reward) and episode.info["answer"] == answer[-1]


def test_what_follows_a_final_answer_is_cut_from_tokens_and_text(script):
    script(PLAIN, "one\n#### 3\nand more\nand more")
    episode = play(QUESTION_ENV, PLAIN, [3])[0]
    assert episode.rewards.tolist() == [0.0, 1.0]
    assert episode.messages[-1]["content"] == "one\n#### 3\n"
    assert PLAIN.decode(episode.tokens[episode.step_id >= 0].tolist()) == "one\n#### 3\n"
    assert PLAIN.end_of_turn not in episode.tokens
    assert episode.terminated


def test_an_answer_that_ends_without_a_final_answer_is_closed_and_graded(script):
    # "The answer is 3." announces no complete final answer, but graded at the end it may still be right.
    script(PLAIN, "one\nno idea")
    counts = RolloutCounts()
    episode = play(QUESTION_ENV, PLAIN, [3], counts=counts)[0]
    assert episode.terminated and not episode.truncated
    assert episode.rewards.tolist() == [0.0, 0.0] and len(episode.action_spans) == 2
    assert episode.tokens[-1] == PLAIN.end_of_turn and episode.step_id[-1] == 1
    assert counts.cut_off == 0


def test_the_reward_of_a_closing_empty_action_goes_to_the_last_action(script, monkeypatch):
    monkeypatch.setattr(QuestionEnv, "_judge", lambda self, index, response: (True, {"success": True}))
    script(PLAIN, "one\nsomething")
    assert play(QUESTION_ENV, PLAIN, [3])[0].rewards.tolist() == [0.0, 1.0]


def test_an_empty_response_is_one_action_of_its_end_token(script):
    script(PLAIN, "")
    episode = play(QUESTION_ENV, PLAIN, [3])[0]
    assert episode.terminated and episode.rewards.tolist() == [0.0]
    assert episode.step_id.tolist()[-1] == 0 and episode.num_action_tokens == 1
    assert episode.action_spans.tolist() == [[1, 0, 0]]


def test_a_response_cut_off_by_a_limit_is_truncated_and_counted(script):
    script(PLAIN, "one\ntwo...")
    counts = RolloutCounts()
    episode = play(QUESTION_ENV, PLAIN, [3], counts=counts)[0]
    assert episode.truncated and not episode.terminated and not episode.success
    assert episode.rewards.tolist() == [0.0, 0.0]
    assert counts == RolloutCounts(prompts_too_long=0, cut_off=1)


@pytest.mark.parametrize("said", ["one\n#### 3", "#### 3", "one\n\\boxed{4}, no: #### 3"])
def test_an_answer_that_a_limit_may_have_cut_is_truncated_and_not_graded(script, said: str):
    """What would come next might be the rest of 31."""
    script(PLAIN, f"{said}...")
    counts = RolloutCounts()
    episode = play(QUESTION_ENV, PLAIN, [3], counts=counts)[0]
    assert episode.truncated and not episode.terminated and not episode.success and counts.cut_off == 1
    assert not episode.rewards.any() and episode.info["answer"] is None and "grade_reason" not in episode.info
    # The text is part of the episode all the same.
    assert episode.messages[-1]["content"] == said and episode.num_steps == 1 + said.count("\n")
    assert PLAIN.decode(episode.tokens[episode.step_id >= 0].tolist()) == said


@pytest.mark.parametrize("said", ["one\n#### 3\n...", "one\n\\boxed{3}...", "#### 3\n#### 4...", "one\n#### 3"])
def test_an_answer_that_is_whole_is_graded_also_where_a_limit_comes_right_behind_it(script, said: str):
    script(PLAIN, said)
    episode = play(QUESTION_ENV, PLAIN, [3])[0]
    assert episode.terminated and episode.success and episode.total_reward == 1.0


@pytest.mark.parametrize("max_new_tokens", range(1, 30))
def test_no_limit_on_tokens_turns_an_answer_into_another(monkeypatch, max_new_tokens: int):
    """One text, cut at every token: the answer 1234, and never 1, 12 or 123."""
    tokens = [*PLAIN.encode("so it is\n#### 1234\n"), PLAIN.end_of_turn]

    def say(policy, prompts, *rest, **options):
        cut = tokens[:max_new_tokens]
        return [Sample(list(cut), [0.0] * len(cut), cut == tokens) for _ in prompts]

    monkeypatch.setattr(sampler_module, "generate", say)
    episode = play(QUESTION_ENV, PLAIN, [3])[0]
    assert episode.info["answer"] in (None, "1234")
    assert episode.terminated == (episode.info["answer"] is not None)


def test_a_turn_of_a_game_that_a_limit_cut_is_not_judged(script):
    script(PLAIN, "first", "second, which is longer...")
    episode = play(DIALOGUE_ENV, PLAIN, [1])[0]
    assert episode.truncated and not episode.success and not episode.rewards.any() and episode.num_steps == 2


def test_steps_beyond_the_environments_limit_are_cut_and_counted(script):
    script(PLAIN, "a\nb\nc\n#### 3")
    counts = RolloutCounts()
    episode = play(QUESTION_ENV, PLAIN, [3], options={"max_steps": 2}, counts=counts)[0]
    assert episode.truncated and episode.num_steps == 2 and counts.cut_off == 1
    assert episode.messages[-1]["content"] == "a\nb\n"


def test_an_observation_that_fills_the_context_ends_the_episode_as_cut_off(script):
    script(PLAIN, "first", "second")
    counts = RolloutCounts()
    options = {"observation": "x " * 60}
    episode = play(DIALOGUE_ENV, PLAIN, [1], policy=make_policy(context=64), options=options, counts=counts)[0]
    assert episode.truncated and episode.num_steps == 1 and counts.cut_off == 1
    assert episode.num_tokens < 64


def test_prompts_that_fill_the_context_are_skipped_counted_and_reported(caplog: pytest.LogCaptureFixture):
    counts = RolloutCounts()
    done: list[int] = []
    policy = make_policy(context=64)
    played = rollout(
        maker(QUESTION_ENV, long=True), policy, PLAIN, range(6), Sampling(max_new_tokens=4), seed=0,
        counts=counts, progress=done.append,
    )  # fmt: skip
    assert sorted(slot for slot, _ in played) == [0, 2, 4]
    assert counts.prompts_too_long == 3 and sum(done) == 6
    counts.report("collection")
    assert "collection: 3 rollouts skipped, their prompt fills the policy's context" in caplog.text
    assert "collection: 3 rollouts were cut off by a limit" in caplog.text


def test_nothing_is_reported_when_nothing_went_wrong(caplog: pytest.LogCaptureFixture):
    RolloutCounts().report("collection")
    assert not caplog.records


def test_the_turn_that_answers_an_observation_gets_the_reward(script):
    script(CHAT, "hm", "a longer one")
    episode = play(DIALOGUE_ENV, CHAT, [1])[0]
    assert episode.rewards.tolist() == [0.0, 1.0]
    assert [message["role"] for message in episode.messages] == ["user", "assistant", "user", "assistant"]
    assert episode.action_spans.tolist() == [[1, 0, 2], [3, 0, 12]]


def test_info_says_who_played_and_keeps_scalars_only(script):
    script(PLAIN, "#### 3")
    [(_, episode)] = rollout(
        maker(QUESTION_ENV), make_policy(), PLAIN, [3], Sampling(temperature=0.7), seed=11, info={"policy": "sft"}
    )
    assert episode.info["seed"] == 11 and episode.info["temperature"] == 0.7 and episode.info["policy"] == "sft"
    assert episode.env_id == QUESTION_ENV and episode.task_id == "question/3"
    assert "messages" not in episode.info and "index" not in episode.info


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
