"""Models that think: what is sampled is recorded whole, and judged by what follows the thought."""

from collections.abc import Sequence

import gymnasium as gym
import pytest
from chat_templates import make

from oreo_agents.episodes.generate import Sample
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.record import Record
from oreo_agents.episodes.texts import encode_episode
from oreo_algos.episode import Episode
from oreo_envs.grading import Thoughts

THOUGHT = "Perhaps #### 1\nor \\boxed{2}.\n"
HARMONY = "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>{}"


def make_env(**options) -> gym.Env[str, str]:
    return gym.make("oreo/Arithmetic-v0", answer="exact", disable_env_checker=True, **options)


def answered(prompt_format: PromptFormat, text: str, parts: int = 1, **options) -> Episode:
    """The episode of an answer to task 3, sampled in one go or in several."""
    record = Record.begin(make_env(**options), 0, 3, prompt_format)
    tokens = [*prompt_format.tokenizer(text, add_special_tokens=False)["input_ids"], prompt_format.end_of_turn]
    size = -(-len(tokens) // parts)
    while tokens and not record.over:
        now, tokens = tokens[:size], tokens[size:]
        record.advance(Sample(now, [-1.0] * len(now), ended=not tokens, stopped=bool(tokens)), prompt_format, 10_000)
    return record.episode({})


def reference() -> str:
    return str(make_env().unwrapped.problem(3).answer)


def own(episode: Episode) -> Sequence[int]:
    return episode.tokens[episode.step_id >= 0].tolist()


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        ("qwen3", "<think>\n{}\n</think>\n\n{}"),
        ("qwen3.5", "{}\n</think>\n\n{}"),
        ("deepseek-r1", "{}\n</think>\n\n{}"),
        ("gpt-oss", HARMONY),
    ],
)
def test_the_answer_counts_and_the_thought_is_recorded(name: str, spelling: str, parts: int):
    prompt_format = PromptFormat(make("bytes", name))
    right = answered(prompt_format, spelling.format(THOUGHT, f"#### {reference()}"), parts)
    assert right.success and right.terminated and right.rewards.sum() == 1.0
    wrong = answered(prompt_format, spelling.format(f"#### {reference()}\n", "#### 99"), parts)
    assert not wrong.success and wrong.info["answer"] == "99"
    none = answered(prompt_format, (spelling.partition("{}")[0] or "") + f"#### {reference()}\n", parts)
    assert not none.success and none.info["answer"] is None and none.info["grade_reason"] == "no_answer"
    # All that was said is the model's, mark by mark.
    text = spelling.format(THOUGHT, f"#### {reference()}")
    said = prompt_format.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert own(right)[: len(said)] == said
    assert right.messages[-1]["content"] == text
    assert right.num_steps >= 3


def test_marks_of_the_format_or_else_of_the_environment_count():
    text = "<plan>\n#### 99\n</plan>\n#### " + reference()
    tokenizer = make("bytes", "chatml")
    marks = [["<plan>", "</plan>"]]
    assert not answered(PromptFormat(tokenizer), text).success
    assert answered(PromptFormat(tokenizer), text, thoughts=marks).success
    assert answered(PromptFormat(tokenizer, thoughts=Thoughts.of(marks)), text).success


def test_what_one_model_was_told_is_not_said_of_the_next():
    env = make_env()
    Record.begin(env, 0, 3, PromptFormat(make("bytes", "deepseek-r1")))
    assert env.unwrapped.thoughts.opened
    Record.begin(env, 0, 3, PromptFormat(make("bytes", "chatml")))
    assert not env.unwrapped.thoughts.opened


@pytest.mark.parametrize("kind", ["bytes", "llama2", "unigram"])
@pytest.mark.parametrize("name", ["deepseek-math", "vicuna", "chatml", "glm4"])
def test_a_blank_that_the_template_asks_for_is_no_part_of_the_answer(name: str, kind: str):
    """What was sampled, encoded again, has the tokens that were sampled."""
    prompt_format = PromptFormat(make(kind, name))
    blank = " " if name in ("deepseek-math", "vicuna") else "\n" if name == "glm4" else ""
    record = Record.begin(make_env(), 0, 3, prompt_format)
    tokens = [*prompt_format.reply("So it is.\n#### 7")]
    record.advance(Sample(tokens, [0.0] * len(tokens), ended=True), prompt_format, 10_000)
    episode = record.episode({})
    assert episode.messages[-1]["content"] == "So it is.\n#### 7"
    assert prompt_format.tokenizer.decode(episode.tokens).count(blank + "So it is.") == 1
    again = encode_episode(episode, prompt_format)
    said = again.tokens[again.step_id >= 0].tolist()
    assert again.tokens.tolist() == episode.tokens.tolist()[: len(again.tokens)]
    assert own(episode)[-len(said) :] == said or own(episode)[: len(said)] == said


@pytest.mark.parametrize("name", ["qwen3", "qwen3.5", "gpt-oss", "vicuna", "chatml"])
def test_a_reply_that_is_written_leaves_the_thought(name: str):
    """Such as an admissible command: the environment obeys it also where the prompt has begun a thought."""
    prompt_format = PromptFormat(make("bytes", name))
    env = make_env()
    opening = prompt_format.opening(env.reset(options={"index": 3})[1]["messages"])
    tokens = prompt_format.reply("#### 7")
    assert prompt_format.decode([*opening, *tokens]).endswith("#### 7")
    assert answered(prompt_format, prompt_format.tokenizer.decode(tokens[:-1])).info["answer"] == "7"
