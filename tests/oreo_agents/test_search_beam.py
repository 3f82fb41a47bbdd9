"""The step beam with the true value of a policy in a table: what goes wrong cannot be blamed on V."""

import gymnasium as gym
import pytest
import torch
from reading_policy import (
    FORMAT,
    MAKE_ENV,
    NUM_PROBLEMS,
    PROBLEMS,
    answers,
    complete,
    generate,
    greedy_is_right,
    make_player,
    solved,
    success_probability,
    table,  # noqa: F401 (a fixture)
)
from tiny_models import make_model, make_tokenizer

from oreo_agents.generate import Sampling
from oreo_agents.policy import CausalPolicy
from oreo_agents.prompts import PromptFormat
from oreo_agents.search import BestOfN, Greedy, Player, StepBeam, WeightedVote
from oreo_agents.value import TokenValue
from oreo_envs.answers import split_steps

pytestmark = pytest.mark.usefixtures("table")
SIZES = pytest.mark.parametrize(("keep", "expand"), [(1, 1), (1, 3), (2, 1), (2, 4), (4, 4)])


def text_of(tokens: list[int]) -> str:
    return FORMAT.decode(tokens)


@SIZES
def test_with_the_true_value_of_greedy_decoding_no_answer_is_worse_than_the_greedy_one(keep: int, expand: int):
    greedy, beam = solved(Greedy(), make_player()), solved(StepBeam(keep=keep, expand=expand), make_player())
    assert any(greedy) and not all(greedy)
    assert all(ours >= theirs for ours, theirs in zip(beam, greedy, strict=True))
    if keep == expand == 1:
        assert beam == greedy
    if keep * expand == 16:
        assert sum(beam) > sum(greedy)


def test_with_the_true_value_best_of_n_is_as_good_as_the_best_of_its_samples():
    player = make_player(success_probability)
    best = solved(BestOfN(samples=5), player)
    drawn = player.samples(5, 1.0)
    assert best == [any(episode.success for episode in episodes) for episodes in drawn]
    assert not all(best)
    assert solved(WeightedVote(samples=5), player) == best, "wrong answers have weight 0"


def test_a_beam_of_one_greedy_step_generates_the_greedy_episode():
    greedy = answers(Greedy(), make_player())
    for ours, theirs in zip(answers(StepBeam(keep=1, expand=1), make_player()), greedy, strict=True):
        for name in ("tokens", "step_id", "rewards", "action_spans"):
            assert getattr(ours.episode, name).tolist() == getattr(theirs.episode, name).tolist(), name
        assert ours.episode.messages == theirs.episode.messages
        assert ours.tokens == theirs.tokens


def test_the_steps_of_an_answer_are_those_of_its_text():
    for answer in answers(StepBeam(), make_player()):
        message = answer.episode.messages[-1]["content"]
        texts = [message[start:end] for _, start, end in answer.episode.action_spans.tolist()]
        assert texts == list(split_steps(message, ("\n",)))
        for k, text in enumerate(texts):
            assert text_of(answer.episode.tokens[answer.episode.step_id == k].tolist()) == text


def test_tokens_are_those_that_the_networks_produced_and_read():
    for search in (StepBeam(), StepBeam(keep=3, expand=2), BestOfN(samples=3), WeightedVote(samples=3), Greedy()):
        player = make_player()
        found = answers(search, player)
        assert sum(answer.tokens for answer in found) == player.policy.generated
        assert sum(answer.value_tokens for answer in found) == player.value.read
        assert (player.value.read > 0) == search.needs_value


def test_tokens_of_one_beam_are_counted_by_hand():
    """One greedy line after another: a prompt, then every line read with all before it, the end token never."""
    [answer] = answers(StepBeam(keep=1, expand=1), make_player(indices=[3]))
    question = f"{PROBLEMS[3].question}\n"
    lines = split_steps(complete(question, None), ("\n",))
    assert answer.tokens == sum(len(FORMAT.encode(line)) for line in lines) + 1
    states = ["".join([question, *lines[: k + 1]]) for k in range(len(lines))]
    assert answer.value_tokens == sum(len(FORMAT.encode(state)) for state in states)


def test_duplicates_are_read_once(monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []

    def value(text: str) -> float:
        read.append(text)
        return greedy_is_right(text)

    answers(StepBeam(keep=3, expand=4), make_player(value, indices=[2]))
    assert len(read) == len(set(read))
    # There are four readings of the first verb, and twelve candidates were drawn.
    first = [text for text in read if text.count("\n") == 2 and text.endswith("\n")]
    assert 1 < len(first) <= 4


def test_a_finished_answer_gives_way_to_a_better_unfinished_one_and_comes_back_when_that_disappoints():
    """V promises much after one line and little after two; the answer that V likes less is short of nothing."""
    promises = iter(range(100))

    def value(text: str) -> float:
        said = text.partition("\n")[2]
        finished = "####" in said
        return 0.5 - 0.001 * next(promises) if finished else 0.9 - 0.3 * said.count("\n")

    player = make_player(value, indices=[1])
    [answer] = answers(StepBeam(keep=2, expand=2), player)
    assert answer.episode.terminated and "####" in answer.episode.messages[-1]["content"]


@pytest.mark.parametrize("limits", [{"max_new_tokens": 14}, {"max_steps": 2}, {"max_new_tokens": 3}])
def test_at_a_limit_the_best_partial_answer_is_given(limits: dict[str, int]):
    options = {name: limits.pop(name) for name in list(limits) if name == "max_steps"}
    make_env = lambda: MAKE_ENV(**options)  # noqa: E731
    player = make_player(make_env=make_env, indices=range(6), **limits)
    for answer in answers(StepBeam(keep=2, expand=3), player):
        assert answer.episode.truncated and not answer.episode.terminated and answer.episode.num_steps >= 1
        assert answer.episode.num_action_tokens <= limits.get("max_new_tokens", 99)
    assert player.counts.cut_off == 6


def test_a_partial_answer_is_given_only_if_none_is_finished():
    # The answers of this problem differ in length, and some of them fit.
    lengths = sorted(len(FORMAT.encode(complete(f"{problem.question}\n", None))) for problem in PROBLEMS)
    player = make_player(lambda text: -float(len(text)), max_new_tokens=lengths[len(lengths) // 2])
    episodes = [answer.episode for answer in answers(StepBeam(keep=4, expand=4), player)]
    assert any(episode.terminated for episode in episodes)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_search_does_not_depend_on_the_searches_beside_it(batch_size: int):
    whole = answers(StepBeam(), make_player(success_probability))
    found = answers(StepBeam(), make_player(success_probability, batch_size=batch_size))
    assert all(a.episode.equals(b.episode) and a.tokens == b.tokens for a, b in zip(whole, found, strict=True))
    [alone] = answers(StepBeam(), make_player(success_probability, indices=[9], batch_size=batch_size))
    assert alone.episode.equals(whole[9].episode)


def test_beams_of_all_tasks_share_forward_passes():
    player = make_player(success_probability)
    answers(StepBeam(keep=2, expand=3), player)
    assert player.policy.rows[0] == NUM_PROBLEMS * 6
    assert len(player.policy.rows) == 3, "two lines and the answer"


def test_neither_reward_nor_success_is_looked_at(monkeypatch: pytest.MonkeyPatch):
    """The same answers where everything is judged right, and where everything is judged wrong."""
    from oreo_envs.arithmetic import ArithmeticEnv

    found = []
    for verdict in (True, False):
        monkeypatch.setattr(
            ArithmeticEnv, "_judge", lambda self, index, response, v=verdict: (v, {"success": v, "answer": "1"})
        )
        found.append([answer.episode for answer in answers(StepBeam(), make_player(lambda text: len(text) % 7 / 7))])
    assert all(episode.success for episode in found[0]) and not any(episode.success for episode in found[1])
    assert [episode.messages for episode in found[0]] == [episode.messages for episode in found[1]]


def test_with_networks_the_batch_changes_nothing(checkpoint, monkeypatch: pytest.MonkeyPatch):
    from oreo_agents import generate as generate_module
    from oreo_agents.search import player as player_module

    monkeypatch.setattr(player_module, "generate", generate_module.generate)
    value = TokenValue.from_policy(checkpoint("llama"))
    value.model.score.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    policy, prompt_format = CausalPolicy(make_model("llama", context=200)), PromptFormat(make_tokenizer())
    make_env = lambda: gym.make("oreo/Arithmetic-v0", split="test", disable_env_checker=True)  # noqa: E731
    found = []
    for batch_size in (1, 64):
        sampling = Sampling(max_new_tokens=20, batch_size=batch_size)
        player = Player(make_env, policy, prompt_format, range(3), sampling, seed=0, value=value)
        found.append(StepBeam(keep=2, expand=2, temperature=1.0).answer(player))
    for one, other in zip(*found, strict=True):
        assert one is not None and other is not None
        assert one.episode.tokens.tolist() == other.episode.tokens.tolist()
        assert (one.tokens, one.value_tokens) == (other.tokens, other.value_tokens)


def test_sizes_hold_no_more_candidates_than_asked_for():
    for answers_asked in range(1, 40):
        beam = StepBeam().sized(answers_asked)
        assert answers_asked * 0.7 < beam.keep * beam.expand <= answers_asked or beam.keep * beam.expand == 1
    assert [StepBeam().sized(n).size for n in (1, 2, 4, 8, 18)] == ["1 x 1", "1 x 2", "1 x 4", "2 x 4", "3 x 6"]


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="keep and expand must be at least 1, got 0 and 4"):
        StepBeam(keep=0)
    with pytest.raises(ValueError, match="temperature must be > 0 to draw different steps, got 0"):
        StepBeam(temperature=0)


def test_the_stand_in_has_the_parameters_of_the_real_generate():
    import inspect

    from oreo_agents.generate import generate as real

    assert inspect.signature(generate).parameters.keys() == inspect.signature(real).parameters.keys()
