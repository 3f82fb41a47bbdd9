"""What a search generates and reads: each token counted, each text read once, an end token where it counts."""

import pytest
from reading_policy import (
    FORMAT,
    MAKE_ENV,
    PROBLEMS,
    answers,
    complete,
    greedy_is_right,
    make_player,
    table,  # noqa: F401 (a fixture)
)

from oreo_agents.episodes import sampler as sampler_module
from oreo_agents.episodes.generate import Sample
from oreo_agents.episodes.record import Record
from oreo_agents.search import BestOfN, Greedy, Player, StepBeam, WeightedVote
from oreo_envs.answers import split_steps
from oreo_envs.arithmetic import ArithmeticEnv

pytestmark = pytest.mark.usefixtures("table")


def begun(**options: int) -> Record:
    return Record.begin(MAKE_ENV(**options), 0, 0, FORMAT)


def said(text: str, *, end: bool) -> Sample:
    tokens = [*FORMAT.encode(text), *([FORMAT.end_of_turn] if end else [])]
    return Sample(tokens, [0.0] * len(tokens), ended=end, stopped=not end)


@pytest.mark.parametrize("delimiter", ["\n", "= "])
def test_tokens_are_those_that_the_networks_produced_and_read(delimiter: str, monkeypatch: pytest.MonkeyPatch):
    """The token after "= " shows that a step is over: it is taken back, drawn again, and counted twice."""
    monkeypatch.setattr(ArithmeticEnv, "step_delimiters", (delimiter,))
    for search in (
        StepBeam(tau=0),
        StepBeam(tau=0, keep=3, expand=2),
        BestOfN(tau=0, samples=3),
        WeightedVote(tau=0, samples=3),
        Greedy(),
    ):
        player = make_player()
        found = answers(search, player)
        assert sum(answer.tokens for answer in found) == player.policy.generated
        assert sum(answer.value_tokens for answer in found) == player.value.read
        assert (player.value.read > 0) == search.needs_value


def test_a_token_that_is_taken_back_and_drawn_again_counts_twice(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ArithmeticEnv, "step_delimiters", ("= ",))
    for answer, problem in zip(answers(StepBeam(tau=0, keep=1, expand=1), make_player()), PROBLEMS, strict=True):
        assert answer.episode.num_steps == 1 + len(problem.verbs), "one step up to each equals sign, and the rest"
        assert answer.tokens == answer.episode.num_action_tokens + len(problem.verbs)
        assert answer.episode.info["generated_tokens"] == answer.tokens


def test_where_there_is_nothing_to_choose_no_value_is_read():
    for search in (StepBeam(tau=0, keep=1, expand=1), BestOfN(tau=0, samples=1), WeightedVote(tau=0, samples=1)):
        player = make_player()
        assert all(answer.value_tokens == 0 for answer in answers(search, player))
        assert player.value.read == 0


def test_tokens_of_one_beam_are_counted_by_hand(monkeypatch: pytest.MonkeyPatch):
    """One greedy line after another, each twice: everything is read once, the end token never."""
    monkeypatch.setattr(Player, "source", lambda *_: None)
    [answer] = answers(StepBeam(tau=0, keep=1, expand=2), make_player(indices=[3]))
    question = f"{PROBLEMS[3].question}\n"
    lines = split_steps(complete(question, None), ("\n",))
    assert answer.tokens == 2 * (sum(len(FORMAT.encode(line)) for line in lines) + 1)
    assert answer.value_tokens == len(FORMAT.encode(question)) + sum(len(FORMAT.encode(line)) for line in lines)


def test_duplicates_are_read_once(monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []

    def value(text: str) -> float:
        read.append(text)
        return greedy_is_right(text)

    answers(StepBeam(tau=0, keep=3, expand=4), make_player(value, indices=[2]))
    assert len(read) == len(set(read))
    # There are four readings of the first verb, and twelve candidates were drawn.
    first = [text for text in read if text.count("\n") == 2 and text.endswith("\n")]
    assert 1 < len(first) <= 4


def test_one_text_is_read_once_whichever_beams_it_comes_from(monkeypatch: pytest.MonkeyPatch):
    """A blank line may end one step or begin the next; the finished answer is the same."""
    line, final = complete(f"{PROBLEMS[0].question}\n", None).split("\n")[0] + "\n", "#### 1"
    asked: list[int] = []

    def say(policy, prompts, *_, **options) -> list[Sample]:
        asked.append(len(prompts))
        if len(asked) == 1:
            return [said(line, end=False), said(f"{line}\n", end=False)]
        blank = [FORMAT.decode(prompt).endswith("\n\n") for prompt in prompts]
        return [said(final if seen else f"\n{final}", end=True) for seen in blank]

    monkeypatch.setattr(sampler_module, "generate", say)
    read: list[str] = []
    player = make_player(lambda text: float(read.append(text) is None), indices=[0])
    [answer] = answers(StepBeam(tau=0, keep=2, expand=1), player)
    assert asked == [2, 2] and answer.episode.messages[-1]["content"] == f"{line}\n{final}"
    assert [text.partition("\n")[2] for text in read] == ["", line, f"{line}\n", f"{line}\n{final}"]


def test_the_end_token_is_not_read_where_the_step_that_it_ends_is_cut_off():
    line, rest = complete(f"{PROBLEMS[0].question}\n", None).split("\n")[:2]
    record = begun(max_steps=2)
    record.advance(said(f"{line}\n", end=False), FORMAT, 512)
    assert record.judged == record.tokens
    record.advance(said(rest, end=True), FORMAT, 512)
    assert record.truncated and not record.terminated
    assert record.tokens[-1] == FORMAT.end_of_turn and record.judged == record.tokens[:-1]


def test_an_end_token_alone_belongs_to_the_step_before_as_in_a_rollout():
    line = complete(f"{PROBLEMS[0].question}\n", None).split("\n")[0] + "\n"
    whole, stepwise = begun(), begun()
    whole.advance(said(line, end=True), FORMAT, 512)
    stepwise.advance(said(line, end=False), FORMAT, 512)
    stepwise.advance(said("", end=True), FORMAT, 512)
    assert whole.terminated and whole.episode({}).num_steps == 1
    assert stepwise.episode({}).equals(whole.episode({})) and stepwise.judged == whole.judged
