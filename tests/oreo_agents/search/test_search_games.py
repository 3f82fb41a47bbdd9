"""Best of K actions in a small game of two turns."""

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import ClassVar

import gymnasium as gym
import pytest
import torch
from tiny_models import make_model, make_tokenizer
from torch import Tensor, nn

from oreo_agents.episodes import sampler as sampler_module
from oreo_agents.episodes.generate import Sample, Sampling
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.record import Record
from oreo_agents.evaluation.evaluate import evaluate
from oreo_agents.networks.kv_cache import Prefix
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.search import (
    BestOfKActions,
    BestOfN,
    Greedy,
    MajorityOfKActions,
    Player,
    ResampleActions,
    StepBeam,
)
from oreo_envs.base import Opening, Outcome, TextEnv
from oreo_envs.plain import PlainEnv
from oreo_envs.spaces import FreeText

GAME, PLAIN = "oreo_test/Game-v0", "oreo_test/PlainGame-v0"
FORMAT = PromptFormat(make_tokenizer())
LIMITS = Sampling(max_new_tokens=8, batch_size=16)


class GameEnv(TextEnv):
    """Two turns; won by saying "up" and then "down"."""

    splits: ClassVar[tuple[str, ...]] = ("train",)

    def __init__(self, *, split: str = "train") -> None:
        """Play."""
        super().__init__(split=split, max_steps=4, max_chars=10_000)

    @property
    def num_tasks(self) -> int:
        return 5

    def _open(self, index: int) -> Opening:
        return Opening(f"game/{index}", "go", ({"role": "user", "content": f"go {index}"},))

    def _index_of(self, task_id: str) -> int | None:
        return None

    def _respond(self, action: str) -> Outcome:
        said = [message["content"] for message in self._messages if message["role"] == "assistant"]
        if len(said) == 1:
            return Outcome(observation="and then?")
        return Outcome(reward=float(said == ["up", "down"]), terminated=True, info={"success": said == ["up", "down"]})


@pytest.fixture(scope="module", autouse=True)
def game() -> Iterator[None]:
    gym.register(GAME, entry_point=GameEnv)
    yield
    del gym.registry[GAME]


class Judge(nn.Module):
    """V of the state after a row: what a function says of its text."""

    resumes = True

    def __init__(self, of_text: Callable[[str], float]) -> None:
        """Judge by ``of_text``."""
        super().__init__()
        self.of_text, self.texts = of_text, []
        self.anywhere = nn.Parameter(torch.zeros(1))

    def values_after(
        self, transcripts: Sequence[Sequence[int]], prefixes: Sequence[Prefix]
    ) -> tuple[Tensor, list[Prefix]]:
        texts = [FORMAT.decode(row) for row in transcripts]
        self.texts += texts
        read = [Prefix((torch.zeros(len(row), 1),)) for row in transcripts]
        return torch.tensor([float(self.of_text(text)) for text in texts]), read


def make_env() -> gym.Env:
    return gym.make(GAME, disable_env_checker=True)


def make_player(value: nn.Module, count: int = 1, *, seed: int = 0, **limits: int) -> Player:
    sampling = Sampling(**{"max_new_tokens": 8, "batch_size": 16} | limits)
    policy = CausalPolicy(make_model("llama", context=128))
    return Player(make_env, policy, FORMAT, range(count), sampling, seed=seed, value=value)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the policy propose given texts, turn by turn; one that ends in "..." is cut off before its end."""

    def install(*turns: list[str]) -> None:
        waiting = list(turns)

        def say(policy, prompts, end_ids, sampling, *, sources, choices, stops, spoken, caches):
            assert stops is None and choices is None and set(spoken) == {0}
            samples = []
            for text in waiting.pop(0):
                cut = text.endswith("...")
                tokens = FORMAT.encode(text.removesuffix("...")) + ([] if cut else [FORMAT.end_of_turn])
                samples.append(Sample(tokens, [0.0] * len(tokens), not cut))
            assert len(samples) == len(prompts) == len(sources)
            return samples

        monkeypatch.setattr(sampler_module, "generate", say)

    return install


def test_every_turn_takes_the_proposal_of_highest_value_just_before_its_end(script):
    script(["left", "up", "up"], ["down", "up", "left"])
    judge = Judge(lambda text: float(text.endswith(("up", "down")) and not text.endswith("then?\nup")))
    player = make_player(judge)
    [answer] = BestOfKActions(tau=0, actions=3).answer(player)
    assert answer is not None and answer.episode.success
    assert [m["content"] for m in answer.episode.messages] == ["go 0", "up", "and then?", "down"]
    # Equal proposals are read once, and so is what they share: an end token only if a turn follows it.
    turns = [["left", "up"], [f"up\nand then?\n{text}" for text in ("down", "up", "left")]]
    shared = ["", "up\nand then?\n"]
    assert sorted(judge.texts) == sorted(f"go 0\n{text}" for turn in [shared, *turns] for text in turn)
    said = ["left", "up", "up", "down", "up", "left"]
    assert answer.tokens == sum(len(FORMAT.encode(text)) + 1 for text in said)
    opening, between = FORMAT.encode("go 0\n"), FORMAT.next_turn("and then?")
    lengths = {text: len(FORMAT.encode(text)) for text in said}
    first = [lengths[text] for text in ("left", "up")]
    # The transcript keeps the end token of "up", which was not read when that was judged.
    second = [lengths[text] for text in ("down", "up", "left")]
    assert answer.value_tokens == len(opening) + sum(first) + 1 + len(between) + sum(second)


def test_what_was_proposed_at_each_turn_is_told(script):
    values = {"left": 0.0, "up": 1.0, "down": 2.0}
    for search, v in (
        (BestOfKActions(tau=0, actions=3), values),
        (MajorityOfKActions(actions=3), dict.fromkeys(values)),
    ):
        script(["left", "up", "up"], ["down", "up", "down"])
        [answer] = search.answer(make_player(Judge(lambda text: values[text.split("\n")[-1] or "left"])))
        assert answer is not None
        assert all(
            one.score == (one.votes if one.value is None else one.value) for turn in answer.turns for one in turn
        )
        assert [[(one.text, one.votes, one.value) for one in turn] for turn in answer.turns] == [
            [("left", 1, v["left"]), ("up", 2, v["up"])],
            [("down", 2, v["down"]), ("up", 1, v["up"])],
        ]
    script(["up"], ["down"])
    [alone] = MajorityOfKActions(actions=1).answer(make_player(Judge(float)))
    assert alone is not None and not alone.turns, "there was nothing to choose"


def test_an_action_that_was_cut_off_is_taken_only_if_there_is_no_other(script):
    script(["up...", "left"], ["down...", "up..."])
    [answer] = BestOfKActions(tau=0, actions=2).answer(make_player(Judge(lambda text: float(text.endswith("up")))))
    assert answer is not None
    assert [m["content"] for m in answer.episode.messages if m["role"] == "assistant"] == ["left", "up"]


def test_a_majority_of_actions_takes_what_is_proposed_most_often_and_reads_no_value(script):
    script(["left", "up", "up"], ["down", "up", "left"])
    judge = Judge(len)
    [answer] = MajorityOfKActions(actions=3).answer(make_player(judge))
    assert answer is not None and answer.value_tokens == 0 and not judge.texts
    said = [m["content"] for m in answer.episode.messages if m["role"] == "assistant"]
    assert said == ["up", "down"], "the first of equals is the greedy one"


def test_a_majority_of_unfinished_actions_loses_to_a_finished_one(script):
    script(["up...", "up...", "left"], ["down", "up...", "up..."])
    [answer] = MajorityOfKActions(actions=3).answer(make_player(Judge(len)))
    assert answer is not None
    assert [m["content"] for m in answer.episode.messages if m["role"] == "assistant"] == ["left", "down"]


def test_a_majority_of_commands_counts_the_commands_and_not_the_thoughts(script, monkeypatch):
    """Three thoughts that lead to one command outvote two equal turns; of their texts the first is taken."""
    monkeypatch.setattr(GameEnv, "command_in", lambda self, text: text.rpartition("so ")[2].lower(), raising=False)
    script(
        ["b so left", "b so left", "c so up", "a so up", "d so Up"],
        ["", "", "a so up...", "b so up...", "c so down"],
    )
    [answer] = MajorityOfKActions(actions=5).answer(make_player(Judge(len)))
    assert answer is not None
    said = [m["content"] for m in answer.episode.messages if m["role"] == "assistant"]
    # Turns without a command vote as they are, and so do those that were cut off.
    assert said == ["c so up", ""]


def test_one_action_is_greedy_play():
    player = make_player(Judge(len), count=5, max_new_tokens=30)
    played = BestOfKActions(tau=0, actions=1).answer(player)
    greedy = Greedy().answer(player)
    for ours, theirs in zip(played, greedy, strict=True):
        assert ours is not None and theirs is not None
        assert ours.episode.tokens.tolist() == theirs.episode.tokens.tolist()
        assert ours.tokens == theirs.tokens
        assert ours.value_tokens == 0, "there was nothing to choose"
    assert isinstance(player.value, Judge) and not player.value.texts


def test_a_game_that_is_over_holds_nothing_that_was_read_while_others_go_on(monkeypatch):
    player = make_player(Judge(len), count=5, max_new_tokens=30)
    end, continue_turns = player.end, player.continue_turns
    over: list[Record] = []
    held: list[list[int]] = []

    def noted_end(record, temperature):
        assert len(record.policy_cache) and len(record.value_cache)
        over.append(record)
        return end(record, temperature)

    def noted_turns(*arguments, **options):
        held.append([len(record.policy_cache) + len(record.value_cache) for record in over])
        return continue_turns(*arguments, **options)

    monkeypatch.setattr(player, "end", noted_end)
    monkeypatch.setattr(player, "continue_turns", noted_turns)
    BestOfKActions(tau=0, actions=3, temperature=1.5).answer(player)
    assert len(held) == 2 and held[1] and not any(held[1]), "some games are over after a turn"


def test_games_beside_it_change_nothing():
    search = BestOfKActions(tau=0, actions=3, temperature=1.5)
    found = [search.answer(make_player(Judge(len), count=5, batch_size=size)) for size in (1, 64)]
    for one, other in zip(*found, strict=True):
        assert one is not None and other is not None
        assert one.episode.tokens.tolist() == other.episode.tokens.tolist()


def test_no_two_proposals_share_their_randomness_and_another_seed_plays_otherwise(monkeypatch):
    drawn: list[float] = []
    temperatures: set[float] = set()
    original = sampler_module.generate

    def spy(policy, prompts, end_ids, sampling, *, sources, **options):
        drawn.extend(copy.deepcopy(source).random() for source in sources if source is not None)
        temperatures.add(sampling.temperature)
        return original(policy, prompts, end_ids, sampling, sources=sources, **options)

    monkeypatch.setattr(sampler_module, "generate", spy)
    search = BestOfKActions(tau=0, actions=3, temperature=1.5)
    found = [search.answer(make_player(Judge(len), count=5, max_new_tokens=30, seed=seed)) for seed in (0, 1, 0)]
    first, other, again = ([answer.episode.tokens.tolist() for answer in one if answer] for one in found)
    assert first == again != other
    turns = sum(answer.episode.num_steps for one in found[:2] for answer in one if answer)
    assert turns > 2 * 5, "some games have a second turn"
    assert len(set(drawn)) == 2 * turns and temperatures == {1.5}


def test_searches_are_refused_where_they_do_not_fit():
    policy = CausalPolicy(make_model("llama", context=128))
    with pytest.raises(ValueError, match=r"search mine searches over the steps of one answer; .* best_of_k_actions"):
        dict(evaluate(make_env, policy, FORMAT, {"mine": StepBeam(tau=0)}, [0], LIMITS, seed=0, value=Judge(len)))
    arithmetic = partial(gym.make, "oreo/Arithmetic-v0", split="test", disable_env_checker=True)
    with pytest.raises(ValueError, match=r"search mine plays turn by turn; .* use best_of_n or step_beam"):
        dict(
            evaluate(arithmetic, policy, FORMAT, {"mine": BestOfKActions(tau=0)}, [0], LIMITS, seed=0, value=Judge(len))
        )
    with pytest.raises(ValueError, match="search mine chooses among 8 finished episodes"):
        dict(evaluate(make_env, policy, FORMAT, {"mine": BestOfN(tau=0)}, [0], LIMITS, seed=0, value=Judge(len)))


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="actions must be at least 1, got 0"):
        BestOfKActions(tau=0, actions=0)
    with pytest.raises(ValueError, match="temperature must be > 0 to draw different actions, got 0"):
        BestOfKActions(tau=0, temperature=0)


# V and the policy.


@pytest.fixture
def told(script, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Like ``script``, with log pi of each text a token, nats; of a text that is not named -1."""

    def install(*turns: list[str], log_policy: dict[str, float] | None = None) -> None:
        script(*turns)
        say = sampler_module.generate

        def tell(*given, **how):
            samples = say(*given, **how)
            for sample in samples:
                text = FORMAT.decode([token for token in sample.tokens if token != FORMAT.end_of_turn])
                sample.log_policy = [(log_policy or {}).get(text, -1.0)] + [0.0] * (len(sample.tokens) - 1)
            return samples

        monkeypatch.setattr(sampler_module, "generate", tell)

    return install


def said(search, judge: Judge) -> list[str]:
    [answer] = search.answer(make_player(judge))
    assert answer is not None
    return [m["content"] for m in answer.episode.messages if m["role"] == "assistant"]


V_OF = {"left": 0.9, "up": 0.7, "down": 0.5}


def by_last_word(text: str) -> float:
    return V_OF.get(text.split("\n")[-1], 0.0)


@pytest.mark.parametrize(
    ("settings", "first"),
    [
        ({"tau": 0.0}, "left"),
        ({"tau": 0.1}, "up"),  # .9 - .4, .7 - .1, .5 - .05
        ({"tau": 1.0}, "down"),  # .9 - 4, .7 - 1, .5 - .5
        ({"tau": 0.2, "prior": "votes"}, "left"),  # .9, .7 + .14, .5 + .22
        ({"tau": 1.0, "prior": "votes"}, "down"),  # .9, .7 + .69, .5 + 1.1
    ],
)
def test_actions_are_chosen_by_v_and_the_policy(told, settings, first):
    log_policy = {"left": -4.0, "up": -1.0, "down": -0.5}
    told(["left", "up", "up", "down", "down", "down"], ["up"] * 6, log_policy=log_policy)
    assert said(BestOfKActions(actions=6, **settings), Judge(by_last_word)) == [first, "up"]


def test_proposals_say_their_log_probability_and_the_votes_of_their_command(told, monkeypatch):
    monkeypatch.setattr(GameEnv, "command_in", lambda self, text: text.rpartition("so ")[2], raising=False)
    told(["a so up", "b so up", "c so left"], ["up"] * 3, log_policy={"b so up": -3.0})
    [answer] = BestOfKActions(actions=3, tau=0.1).answer(make_player(Judge(lambda text: 0.5)))
    assert answer is not None
    found = [(one.text, one.votes, one.logprob) for one in answer.turns[0]]
    assert found == [("a so up", 2, -1.0), ("b so up", 2, -3.0), ("c so left", 1, -1.0)]
    told(["a so up", "b so up", "c so left"], ["up"] * 3)
    [unread] = BestOfKActions(actions=3, tau=0.1, prior="votes").answer(make_player(Judge(lambda text: 0.5)))
    assert unread is not None and {one.logprob for one in unread.turns[0]} == {None}


def test_votes_are_those_of_commands_and_not_of_texts(told, monkeypatch):
    monkeypatch.setattr(GameEnv, "command_in", lambda self, text: text.rpartition("so ")[2], raising=False)
    told(["c so left", "c so left", "a so up", "b so up", "d so up"], ["up"] * 5)
    judge = Judge(lambda text: 0.55 if text.endswith("b so up") else 0.6 if text.endswith("left") else 0.5)
    assert said(BestOfKActions(actions=5, tau=1.0, prior="votes"), judge)[0] == "b so up"


def test_a_resampled_action_stands_there_as_often_as_it_was_proposed(told):
    counts = dict.fromkeys(["left", "up"], 0)
    player = make_player(Judge(lambda text: 0.5))
    for player.seed in range(40):
        told(["left", "up", "up", "up"], ["up"] * 4)
        [answer] = ResampleActions(actions=4, tau=0.5).answer(player)
        assert answer is not None
        counts[answer.episode.messages[1]["content"]] += 1
    assert 2 <= counts["left"] <= 19, "one in four"
    told(["left", "up", "up", "up"], ["up"] * 4)
    assert said(ResampleActions(actions=4, tau=0.0), Judge(by_last_word))[0] == "left"


def answered(self, action: str) -> Outcome:
    """Say what only the environment knows."""
    turns = [message for message in self._messages if message["role"] == "assistant"]
    return Outcome(observation=f"you went {action}" if len(turns) == 1 else "", terminated=len(turns) > 1)


def test_looking_ahead_v_is_read_after_the_environment_has_answered(script, monkeypatch):
    monkeypatch.setattr(GameEnv, "_respond", answered)
    turns = ["left", "up", "down"], ["left", "up", "down"]
    seen = Judge(lambda text: float("you went up" in text))
    script(*turns)
    player = make_player(seen)
    [answer] = BestOfKActions(actions=3, tau=0.0, lookahead=True).answer(player)
    assert answer is not None
    messages = [m["content"] for m in answer.episode.messages]
    # Of actions that end the game V is read just before their end, and all are alike.
    assert messages == ["go 0", "up", "you went up", "left"]
    assert "go 0\nup\nyou went up\n" in seen.texts
    script(*turns)
    assert said(BestOfKActions(actions=3, tau=0.0), seen)[0] == "left", "without, V knows nothing of it"


def test_looking_ahead_leaves_the_game_as_it_is(monkeypatch):
    """What was tried is not what was played: the same actions lead to the same episode."""
    players = [make_player(Judge(len), count=5, max_new_tokens=30) for _ in range(2)]
    found = [
        BestOfKActions(actions=3, temperature=1.5, tau=50.0, lookahead=ahead).answer(player)
        for ahead, player in zip((False, True), players, strict=True)
    ]
    for one, other in zip(*found, strict=True):
        assert one is not None and other is not None
        assert one.episode.num_steps == len(one.turns) and other.episode.num_steps == len(other.turns)
        played = [m["content"] for m in other.episode.messages if m["role"] == "user"]
        assert played == ["go " + played[0].split()[1], "and then?"][: len(played)]


def test_an_environment_that_cannot_go_back_is_not_looked_ahead_in():
    class Plain(gym.Env):
        action_space = observation_space = FreeText()

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return "go", {}

    player = make_player(Judge(len))
    player.make_env = lambda: gym.make(PLAIN, disable_env_checker=True)
    gym.register(PLAIN, entry_point=lambda **_: PlainEnv(Plain()))
    try:
        with pytest.raises(ValueError, match=r"lookahead=true .* the state of this environment cannot be cloned"):
            BestOfKActions(actions=2, lookahead=True).answer(player)
    finally:
        del gym.registry[PLAIN]
