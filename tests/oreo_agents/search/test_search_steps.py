"""Where generation stops at a step, and randomness that belongs to a row."""

from functools import partial
from random import Random

import numpy as np
import pytest
import torch
from tiny_models import CHATML, make_model, make_tokenizer

from oreo_agents.episodes.generate import Sampling, draw, generate
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.turn_tokens import BegunStep, StepEnd
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.tiny import word_tokenizer
from oreo_envs.answers import split_steps

LINES, SENTENCES = ("\n",), ("\n", ". ", ".$ ")
WORDS = word_tokenizer(["We", "add", "so", "then", "x", ".", "$", "=", "3", "5", "\\", "[", "]", "####"])
FORMATS = pytest.mark.parametrize(
    "prompt_format",
    [PromptFormat(make_tokenizer()), PromptFormat(make_tokenizer(template=CHATML)), PromptFormat(WORDS)],
    ids=["bytes", "chatml", "words"],
)
TEXTS = [
    "We add 3\nso x = 5\n#### 5",
    "We add 3. So then $x = 5.$ We add 3.5\nso\n",
    "We add $3.\nThen 5. Then 3.",
    "add \\[ x = 3\n= 5. \\] then x\nso",
    "add\n\nthen x.  so\n \nWe",
    "\n\nadd",
]


def pieces(tokens: list[int], delimiters: tuple[str, ...], prompt_format: PromptFormat) -> list[list[int]]:
    """Generate these tokens step by step: a token that was taken back is the first to be drawn again."""
    found, start = [], 0
    while start < len(tokens):
        for end in range(start + 1, len(tokens) + 1):
            kept = prompt_format.complete_step(tokens[start:end], delimiters, inside=start > 0)
            if kept is not None:
                break
        kept = end - start if kept is None else kept
        found.append(tokens[start : start + kept])
        start += kept
    return found


@FORMATS
@pytest.mark.parametrize("delimiters", [LINES, SENTENCES], ids=["lines", "sentences"])
@pytest.mark.parametrize("text", TEXTS)
def test_steps_one_by_one_are_those_of_the_whole_text_but_for_blanks(prompt_format, delimiters, text: str):
    tokens = prompt_format.encode(text)
    found = [prompt_format.decode(piece) for piece in pieces(tokens, delimiters, prompt_format)]
    assert "".join(found) == prompt_format.decode(tokens)
    _, expected = prompt_format.split_steps(tokens, delimiters)
    assert [step.strip() for step in found if step.strip()] == [step.strip() for step in expected if step.strip()]


def test_a_formula_that_is_still_open_ends_no_step():
    prompt_format = PromptFormat(WORDS)
    assert prompt_format.complete_step(prompt_format.encode("add \\[ x = 3\n"), LINES) is None
    closed = prompt_format.encode("add \\[ x = 3\n= 5\\] so\n")
    assert prompt_format.complete_step(closed, LINES) == len(closed)
    assert split_steps("add \\[ x = 3\n= 5\\] so\nx", LINES) == ("add \\[ x = 3\n= 5\\] so\n", "x")


def test_a_delimiter_that_the_next_word_completes_takes_that_word_back():
    prompt_format = PromptFormat(WORDS)
    tokens = prompt_format.encode("We add. then")
    assert prompt_format.decode(tokens[-1:]) == " then"
    ends = [prompt_format.complete_step(tokens[: k + 1], SENTENCES) for k in range(len(tokens))]
    first = next(k for k, kept in enumerate(ends) if kept is not None)
    assert ends[first] == first and prompt_format.decode(tokens[:first]) == "We add."


@pytest.mark.parametrize(
    "prompt_format",
    [PromptFormat(make_tokenizer()), PromptFormat(WORDS), PromptFormat(make_tokenizer(template=CHATML))],
    ids=["bytes", "words", "chatml"],
)
@pytest.mark.parametrize("delimiters", [LINES, SENTENCES], ids=["lines", "sentences"])
def test_what_is_remembered_of_a_step_changes_nothing(prompt_format: PromptFormat, delimiters: tuple[str, ...]):
    random, over = Random(0), 0
    words = ["We", " add", " so", ".", "$", " $", "\\[", "\\]", "\n", " ", " x", "3", " ∑", "\n\n", "é"]
    for _ in range(40):
        tokens = prompt_format.encode("".join(random.choices(words, k=25)))
        begun = BegunStep()
        for k in range(1, len(tokens) + 1):
            expected = prompt_format.complete_step(tokens[:k], delimiters)
            assert prompt_format.complete_step(tokens[:k], delimiters, begun=begun) == expected
            if expected is not None:
                over += 1
                break
    assert over > 10


def test_of_a_step_that_never_ends_each_token_is_decoded_a_few_times(monkeypatch: pytest.MonkeyPatch):
    prompt_format = PromptFormat(make_tokenizer())
    tokens = prompt_format.encode("\\[" + "a = b\n" * 100)
    decoded: list[int] = []
    decode = prompt_format.decode
    monkeypatch.setattr(prompt_format, "decode", lambda tokens: (decoded.append(len(tokens)), decode(tokens))[1])
    over = StepEnd(prompt_format, LINES, inside=False)
    assert all(over(tokens[: k + 1]) is None for k in range(len(tokens)))
    assert max(decoded) < 60 and sum(decoded) < 20 * len(tokens)


# Generation.

PROMPTS = [[5], [7, 8, 9, 10, 11, 12], [20, 21, 22], [7, 8, 9]]
END = frozenset({2})


@pytest.fixture(scope="module")
def policy() -> CausalPolicy:
    return CausalPolicy(make_model("llama"))


def sources(*numbers: int | None) -> list[np.random.Generator | None]:
    return [None if number is None else np.random.default_rng(number) for number in numbers]


def test_what_a_row_says_does_not_depend_on_the_rows_beside_it(policy):
    sampling = Sampling(temperature=1.3, max_new_tokens=8)
    together = generate(policy, PROMPTS, END, sampling, sources=sources(0, 1, None, 3))
    for prompt, number, sample in zip(PROMPTS, (0, 1, None, 3), together, strict=True):
        [alone] = generate(policy, [prompt], END, sampling, sources=sources(number))
        assert alone.tokens == sample.tokens
        assert alone.logprobs == pytest.approx(sample.logprobs, abs=1e-4)


def test_a_row_without_a_source_is_greedy(policy):
    found = generate(policy, PROMPTS, END, Sampling(temperature=0.7, max_new_tokens=8), sources=sources(None, 1, 2, 3))
    greedy = generate(policy, PROMPTS, END, Sampling(temperature=0, max_new_tokens=8))
    assert found[0].tokens == greedy[0].tokens
    assert found[0].logprobs == pytest.approx(greedy[0].logprobs, abs=1e-4)
    assert [sample.tokens for sample in found[1:]] != [sample.tokens for sample in greedy[1:]]


def test_a_source_draws_from_the_distribution_of_the_policy():
    logits = torch.tensor([[0.0, 1.0, -torch.inf, 2.0]])
    rng = np.random.default_rng(0)
    drawn, logprobs = draw(logits.expand(4000, -1), 0.5, [rng] * 4000)
    expected = (logits / 0.5).softmax(dim=-1)[0]
    shares = torch.bincount(drawn, minlength=4) / 4000
    assert shares.tolist() == pytest.approx(expected.tolist(), abs=0.025) and shares[2] == 0
    assert logprobs[:5].exp().tolist() == pytest.approx(expected[drawn[:5]].tolist())


def test_a_stop_keeps_what_it_says_and_counts_what_it_takes_back(policy):
    free = generate(policy, PROMPTS, END, Sampling(temperature=0, max_new_tokens=8))

    def stop(tokens):
        return 3 if len(tokens) == 4 else None

    def never(tokens):
        return None

    stops = [stop, never, stop, never]
    found = generate(policy, PROMPTS, END, Sampling(temperature=0, max_new_tokens=8), stops=stops)
    for k, (whole, sample) in enumerate(zip(free, found, strict=True)):
        length = 3 if k % 2 == 0 else 8
        assert sample.tokens == whole.tokens[:length] and len(sample.logprobs) == length
        assert (sample.stopped, sample.dropped, sample.ended) == (k % 2 == 0, 1 - k % 2, False)


def test_tokens_of_the_same_turn_count_against_its_limit(policy):
    limit = Sampling(temperature=0, max_new_tokens=8)
    stop = partial(lambda length, tokens: length if len(tokens) == length else None, 2)
    found = generate(policy, PROMPTS, END, limit, spoken=[0, 3, 6, 7], stops=[stop] * 4)
    assert [len(sample.tokens) for sample in found] == [2, 2, 2, 1]
    # A step that ends where the turn must end is cut off: nothing could follow it.
    assert [sample.stopped for sample in found] == [True, True, False, False]
