"""The step beam with the true value of a policy in a table: what goes wrong cannot be blamed on V."""

import copy
import zlib
from collections.abc import Sequence
from functools import partial

import gymnasium as gym
import pytest
import torch
from reading_policy import (
    FORMAT,
    MAKE_ENV,
    MAKE_MIXED_ENV,
    MIXED_PROBLEMS,
    NUM_PROBLEMS,
    PROBLEMS,
    answers,
    complete,
    generate,
    make_player,
    right_answer,
    solutions,
    solved,
    success_probability,
    table,  # noqa: F401 (a fixture)
)
from tiny_models import make_model, make_tokenizer

from oreo_agents.episodes import sampler as sampler_module
from oreo_agents.episodes.generate import Sampling
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.record import Record
from oreo_agents.episodes.turn_tokens import StepEnd
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import TokenValue
from oreo_agents.search import BestOfN, Greedy, Player, StepBeam, WeightedVote
from oreo_agents.search.step_beam import _Beam, _Tree
from oreo_envs.answers import split_steps
from oreo_envs.arithmetic import ArithmeticEnv

pytestmark = pytest.mark.usefixtures("table")
SIZES = pytest.mark.parametrize(("keep", "expand"), [(1, 1), (1, 3), (2, 1), (2, 4), (4, 4)])


def text_of(tokens: list[int]) -> str:
    return FORMAT.decode(tokens)


# Which beams a tree keeps, by hand.

GOING, FINISHED, CUT_OFF = {}, {"terminated": True}, {"truncated": True}


def beam(name: int, value: float, state: dict[str, bool]) -> _Beam:
    """A beam that is told from others by its one token."""
    return _Beam(Record(None, 0, {}, [name], 0, [0], [0.0], **state), value, score=value)  # type: ignore[arg-type]


def grown(*depths: Sequence[_Beam], keep: int = 2) -> _Tree:
    """A tree that got these candidates, depth by depth."""
    tree = _Tree([])
    for candidates in depths:
        tree.candidates += candidates
        tree.keep(keep)
    return tree


def live(tree: _Tree) -> list[int]:
    return [beam.record.tokens[0] for beam in tree.live]


def test_the_best_candidates_go_on_in_the_order_of_their_values():
    tree = grown([beam(1, 0.2, GOING), beam(2, 0.9, GOING), beam(3, 0.5, GOING)])
    assert live(tree) == [2, 3] and tree.depth == 1 and not tree.candidates


@pytest.mark.parametrize(
    ("tau", "expected"),
    [
        (0.0, 1),  # .9 for "3", .8 for "4"
        (0.1, 1),  # 1 and e^-5 + e^-5
        (1.0, 2),  # 1 and 2 e^-.5: the best of those that say "4"
    ],
)
def test_a_vote_of_finished_answers_weighs_them_by_their_values(tau: float, expected: int):
    values = {1: 0.9, 2: 0.4, 3: 0.4, 4: 0.95}
    tree = grown([beam(name, value, FINISHED) for name, value in values.items()], keep=4)
    assert tree.voted(["3", "4", "4", None], tau).record.tokens == [expected]
    assert tree.voted([None] * 4, tau) is tree.best() and tree.best().record.tokens == [4]


@pytest.mark.parametrize("least", [1, 7, 12, 1000])
def test_a_block_is_of_whole_steps_and_of_so_many_tokens(least: int):
    """However long a block is to be, it ends where a step does, at the first such place."""
    tokens, lines = FORMAT.encode("we add 3\nso 5\nthen 8\nx"), ("\n",)
    ends, ended = [], StepEnd(FORMAT, lines, False, least)
    for k in range(1, len(tokens) + 1):
        if (kept := ended(tokens[:k])) is not None:
            ends.append(kept)
    single = [k for k in range(1, len(tokens) + 1) if text_of(tokens[:k]).endswith("\n")]
    assert len(single) == 3 and ends[:1] == [k for k in single if k >= least][:1]


@pytest.mark.parametrize(
    ("value", "going_on"),
    [
        (0.95, [2]),  # above both: one place is taken
        (0.7, [2]),  # between them
        (0.5, [2]),  # as good as the second: to go on would cost tokens
        (0.1, [2, 3]),  # below both: it waits
    ],
)
def test_a_finished_answer_takes_a_place_as_long_as_none_is_left_above_it(value: float, going_on: list[int]):
    candidates = [beam(1, value, FINISHED), beam(2, 0.9, GOING), beam(3, 0.5, GOING)]
    assert live(grown(candidates)) == live(grown(candidates[::-1])) == going_on


def test_the_search_ends_when_finished_answers_take_every_place():
    tree = grown([beam(1, 0.5, FINISHED), beam(2, 0.5, GOING)], keep=1)
    assert live(tree) == [] and tree.best().record.tokens == [1]


def test_finished_answers_of_all_depths_stay_in_the_pool():
    first = [beam(1, 0.6, FINISHED), beam(2, 0.9, GOING)]
    tree = grown(first, [beam(3, 0.3, FINISHED), beam(4, 0.5, GOING)])
    assert tree.best().record.tokens == [1]
    assert live(tree) == [4], "the answer of the first depth is above it, that of the second below"
    assert live(grown(first, [beam(3, 0.7, FINISHED), beam(4, 0.5, GOING)])) == []
    assert grown(first, [beam(3, 0.7, FINISHED)]).best().record.tokens == [3]


def test_an_answer_that_was_cut_off_takes_no_place_and_is_given_only_if_none_is_finished():
    tree = grown([beam(1, 0.9, CUT_OFF), beam(2, 0.8, CUT_OFF), beam(3, 0.2, GOING), beam(4, 0.1, GOING)])
    assert live(tree) == [3, 4]
    assert grown([beam(1, 0.8, CUT_OFF), beam(2, 0.9, CUT_OFF)]).best().record.tokens == [2]
    assert grown([beam(1, 0.9, CUT_OFF)], [beam(2, 0.1, FINISHED)]).best().record.tokens == [2]


# Whole searches.


@SIZES
def test_with_the_true_value_of_greedy_decoding_no_answer_is_worse_than_the_greedy_one(keep: int, expand: int):
    greedy, beam = solved(Greedy(), make_player()), solved(StepBeam(tau=0, keep=keep, expand=expand), make_player())
    assert any(greedy) and not all(greedy)
    assert all(ours >= theirs for ours, theirs in zip(beam, greedy, strict=True))
    if keep == expand == 1:
        assert beam == greedy
    if keep * expand == 16:
        assert sum(beam) > sum(greedy)


def test_with_the_true_value_best_of_n_is_as_good_as_the_best_of_its_samples():
    player = make_player(success_probability)
    best = solved(BestOfN(tau=0, samples=5), player)
    drawn = player.samples(5, 0.7)
    assert best == [any(episode.success for episode in episodes) for episodes in drawn]
    assert not all(best)
    assert solved(WeightedVote(tau=0, samples=5), player) == best, "wrong answers have weight 0"


def test_two_beams_find_what_one_misses_where_the_first_step_looks_a_little_better_than_it_is():
    """V overrates one wrong reading of the first verb, and sees the truth after the second."""
    question = PROBLEMS[0].question
    right = {
        whole.partition("\n")[0] for whole in solutions(question).values() if whole.endswith(right_answer(question))
    }
    greedy_line = complete(f"{question}\n", None).partition("\n")[0]
    first_lines = {whole.partition("\n")[0] for whole in solutions(question).values()}
    overrated = min(first_lines - right - {greedy_line})
    assert greedy_line not in right

    def value(text: str) -> float:
        lines = text.split("\n")[1:-1]
        if len(lines) == 1:
            return {overrated: 0.9}.get(lines[0], 0.8 if lines[0] in right else 0.1)
        return success_probability(text)

    search = {keep: StepBeam(tau=0, keep=keep, expand=64) for keep in (1, 2)}
    assert solved(Greedy(), make_player(indices=[0])) == [False]
    assert solved(search[1], make_player(value, indices=[0])) == [False]
    assert solved(search[2], make_player(value, indices=[0])) == [True]


def test_every_live_beam_is_continued_as_long_as_its_tree_grows():
    """Problems of one to three verbs: as many lines and an answer. Trees that are done leave the batch."""
    player = make_player(success_probability, make_env=MAKE_MIXED_ENV)
    found = answers(StepBeam(tau=0, keep=2, expand=6), player)
    lines = [len(problem.verbs) for problem in MIXED_PROBLEMS]
    assert set(lines) == {1, 2, 3} and [answer.episode.num_steps for answer in found] == [n + 1 for n in lines]
    assert player.policy.rows == [12 * sum(n >= depth for n in lines) for depth in range(4)]


def test_a_block_as_long_as_an_answer_leaves_the_choice_of_whole_answers():
    player = make_player(success_probability, make_env=MAKE_MIXED_ENV)
    found = answers(StepBeam(tau=0, keep=2, expand=6, block_tokens=10_000, final="vote"), player)
    assert player.policy.rows == [12 * len(MIXED_PROBLEMS)]
    assert [answer.episode.success for answer in found] == [
        any(candidate.episode.success for candidate in answer.candidates) for answer in found
    ]
    assert {answer.episode.success for answer in found} == {True, False}


def test_with_problems_of_several_lengths_the_true_value_never_loses_to_greedy_decoding():
    greedy = solved(Greedy(), make_player(make_env=MAKE_MIXED_ENV))
    found = solved(StepBeam(tau=0, keep=2, expand=4), make_player(make_env=MAKE_MIXED_ENV))
    assert all(ours >= theirs for ours, theirs in zip(found, greedy, strict=True)) and sum(found) > sum(greedy)


# Randomness.


def test_no_two_continuations_share_their_randomness(monkeypatch: pytest.MonkeyPatch):
    drawn: list[float] = []
    asked: list[float] = []

    def spy(*arguments, sources, **options):
        drawn.extend(copy.deepcopy(source).random() for source in sources if source is not None)
        asked.append(arguments[3].temperature)
        return generate(*arguments, sources=sources, **options)

    monkeypatch.setattr(sampler_module, "generate", spy)
    for seed in (0, 1):
        answers(
            StepBeam(tau=0, keep=2, expand=4, temperature=0.3),
            make_player(success_probability, indices=[5, 2], seed=seed),
        )
    # Two seeds and two tasks: seven continuations of the root, then three of each of two beams, twice.
    assert len(drawn) == len(set(drawn)) == 4 * (7 + 2 * 2 * 3)
    assert set(asked) == {0.3}


def test_another_seed_gives_another_search():
    def taste(text):
        return float(zlib.crc32(text.encode()))

    found = [answers(StepBeam(tau=0, keep=1, expand=2), make_player(taste, seed=seed)) for seed in (0, 0, 1)]
    first, again, other = ([answer.episode.messages[-1]["content"] for answer in one] for one in found)
    assert first == again != other


def test_a_beam_of_one_greedy_step_generates_the_greedy_episode():
    greedy = answers(Greedy(), make_player())
    for ours, theirs in zip(answers(StepBeam(tau=0, keep=1, expand=1), make_player()), greedy, strict=True):
        for name in ("tokens", "step_id", "rewards", "action_spans"):
            assert getattr(ours.episode, name).tolist() == getattr(theirs.episode, name).tolist(), name
        assert ours.episode.messages == theirs.episode.messages
        assert ours.tokens == theirs.tokens


def test_the_steps_of_an_answer_are_those_of_its_text():
    for answer in answers(StepBeam(tau=0), make_player()):
        message = answer.episode.messages[-1]["content"]
        texts = [message[start:end] for _, start, end in answer.episode.action_spans.tolist()]
        assert texts == list(split_steps(message, ("\n",)))
        for k, text in enumerate(texts):
            assert text_of(answer.episode.tokens[answer.episode.step_id == k].tolist()) == text


def test_a_finished_answer_gives_way_to_a_better_unfinished_one_and_comes_back_when_that_disappoints():
    """V promises much after one line and little after two; the answer that V likes less is short of nothing."""
    promises = iter(range(100))

    def value(text: str) -> float:
        said = text.partition("\n")[2]
        finished = "####" in said
        return 0.5 - 0.001 * next(promises) if finished else 0.9 - 0.3 * said.count("\n")

    player = make_player(value, indices=[1])
    [answer] = answers(StepBeam(tau=0, keep=2, expand=2), player)
    assert answer.episode.terminated and "####" in answer.episode.messages[-1]["content"]


@pytest.mark.parametrize("limits", [{"max_new_tokens": 14}, {"max_steps": 2}, {"max_new_tokens": 3}])
def test_at_a_limit_the_best_partial_answer_is_given(limits: dict[str, int]):
    options = {name: limits.pop(name) for name in list(limits) if name == "max_steps"}
    make_env = partial(MAKE_ENV, **options)
    player = make_player(make_env=make_env, indices=range(6), **limits)
    for answer in answers(StepBeam(tau=0, keep=2, expand=3), player):
        assert answer.episode.truncated and not answer.episode.terminated and answer.episode.num_steps >= 1
        assert answer.episode.num_action_tokens <= limits.get("max_new_tokens", 99)
    assert player.counts.cut_off == 6


def test_a_partial_answer_is_given_only_if_none_is_finished():
    # The answers of this problem differ in length, and some of them fit, with the token that ends them.
    lengths = sorted(len(FORMAT.encode(complete(f"{problem.question}\n", None))) for problem in PROBLEMS)
    player = make_player(lambda text: -float(len(text)), max_new_tokens=lengths[len(lengths) // 2] + 1)
    episodes = [answer.episode for answer in answers(StepBeam(tau=0, keep=4, expand=4), player)]
    assert any(episode.terminated for episode in episodes)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_search_does_not_depend_on_the_searches_beside_it(batch_size: int):
    whole = answers(StepBeam(tau=0), make_player(success_probability))
    found = answers(StepBeam(tau=0), make_player(success_probability, batch_size=batch_size))
    assert all(a.episode.equals(b.episode) and a.tokens == b.tokens for a, b in zip(whole, found, strict=True))
    [alone] = answers(StepBeam(tau=0), make_player(success_probability, indices=[9], batch_size=batch_size))
    assert alone.episode.equals(whole[9].episode)


def test_beams_of_all_tasks_share_forward_passes():
    player = make_player(success_probability)
    answers(StepBeam(tau=0, keep=2, expand=3), player)
    assert player.policy.rows[0] == NUM_PROBLEMS * 6
    assert len(player.policy.rows) == 3, "two lines and the answer"


def test_neither_reward_nor_success_is_looked_at(monkeypatch: pytest.MonkeyPatch):
    """The same answers where everything is judged right, and where everything is judged wrong."""
    found = []
    for verdict in (True, False):
        monkeypatch.setattr(
            ArithmeticEnv, "_judge", lambda self, index, response, v=verdict: (v, {"success": v, "answer": "1"})
        )
        found.append(
            [answer.episode for answer in answers(StepBeam(tau=0), make_player(lambda text: len(text) % 7 / 7))]
        )
    assert all(episode.success for episode in found[0]) and not any(episode.success for episode in found[1])
    assert [episode.messages for episode in found[0]] == [episode.messages for episode in found[1]]


def test_with_networks_the_batch_changes_nothing(checkpoint, monkeypatch: pytest.MonkeyPatch):
    from oreo_agents.episodes import generate as generate_module

    monkeypatch.setattr(sampler_module, "generate", generate_module.generate)
    value = TokenValue.from_policy(checkpoint("llama"))
    value.model.score.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    policy, prompt_format = CausalPolicy(make_model("llama", context=200)), PromptFormat(make_tokenizer())
    make_env = partial(gym.make, "oreo/Arithmetic-v0", split="test", disable_env_checker=True)
    found = []
    for batch_size in (1, 64):
        sampling = Sampling(max_new_tokens=20, batch_size=batch_size)
        player = Player(make_env, policy, prompt_format, range(3), sampling, seed=0, value=value)
        found.append(StepBeam(tau=0, keep=2, expand=2, temperature=1.0).answer(player))
    for one, other in zip(*found, strict=True):
        assert one is not None and other is not None
        assert one.episode.tokens.tolist() == other.episode.tokens.tolist()
        assert (one.tokens, one.value_tokens) == (other.tokens, other.value_tokens)


def test_sizes_hold_no_more_candidates_than_asked_for():
    for answers_asked in range(1, 40):
        beam = StepBeam(tau=0).sized(answers_asked)
        assert answers_asked * 0.7 < beam.keep * beam.expand <= answers_asked or beam.keep * beam.expand == 1
    assert [StepBeam(tau=0).sized(n).size for n in (1, 2, 4, 8, 18)] == ["1 x 1", "1 x 2", "1 x 4", "2 x 4", "3 x 6"]


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="keep and expand must be at least 1, got 0 and 4"):
        StepBeam(tau=0, keep=0)
    with pytest.raises(ValueError, match="temperature must be > 0 to draw different steps, got 0"):
        StepBeam(tau=0, temperature=0)


def test_the_stand_in_has_the_parameters_of_the_real_generate():
    import inspect

    from oreo_agents.episodes.generate import generate as real

    assert inspect.signature(generate).parameters.keys() == inspect.signature(real).parameters.keys()
