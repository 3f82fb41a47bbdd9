"""Episodes and searches by a server: what is recorded is what the policy would say, and nobody waits."""

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from fake_vllm import FakeVllm
from tiny_models import CHATML, VOCABULARY, make_model, make_tokenizer

from oreo_agents.engines.line import ServerError
from oreo_agents.engines.proof import audit_episodes
from oreo_agents.engines.server_value import ServerValue
from oreo_agents.engines.settings import SamplerSettings
from oreo_agents.episodes.collect import CollectSettings, collect
from oreo_agents.episodes.generate import Sampling
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.rollout import rollout
from oreo_agents.networks.kv_cache import Prefix
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import TokenValue
from oreo_agents.search import BestOfKActions, BestOfN, Greedy, Player, Search, StepBeam
from oreo_algos.episode import Episode
from oreo_envs.base import Opening, Outcome, TextEnv

GAME = "oreo_test/TwoDoors-v0"
FORMAT = PromptFormat(make_tokenizer(template=CHATML, end_of_turn=True))
MAKE_GAME = partial(gym.make, GAME, disable_env_checker=True)
MAKE_SUM = partial(gym.make, "oreo/Arithmetic-v0", split="test", disable_env_checker=True, verbs_per_problem=(1, 1))


class TwoDoors(TextEnv):
    """Two turns; whoever says "left" twice is right."""

    splits: ClassVar[tuple[str, ...]] = ("train",)

    def __init__(self, *, split: str = "train") -> None:
        """Two doors."""
        super().__init__(split=split, max_steps=4, max_chars=10_000)

    @property
    def num_tasks(self) -> int:
        return 8

    def _open(self, index: int) -> Opening:
        return Opening(f"doors/{index}", "", ({"role": "user", "content": f"door {index}?"},))

    def _index_of(self, task_id: str) -> int | None:
        return None

    def _respond(self, action: str) -> Outcome:
        if self._num_steps == 1:
            return Outcome(observation="and now?")
        won = self._messages[-1]["content"] == self._messages[-3]["content"] == "left"
        return Outcome(reward=float(won), terminated=True, info={"success": won})

    def _info(self, extra: Any) -> dict[str, Any]:
        return super()._info({"admissible_commands": ["left", "right", "leap"], **extra})

    def action_text(self, command: str) -> str:
        """Say a command as it is."""
        return command


@pytest.fixture(scope="module", autouse=True)
def game() -> Iterator[None]:
    gym.register(GAME, entry_point=TwoDoors)
    yield
    del gym.registry[GAME]


@pytest.fixture(scope="module")
def policy() -> CausalPolicy:
    return CausalPolicy(make_model("llama", context=256))


@pytest.fixture(scope="module")
def value() -> TokenValue:
    from transformers import LlamaForTokenClassification

    config = make_model("llama", context=256).config
    config.num_labels = 1
    model = LlamaForTokenClassification(config).eval()
    model.score.weight.data.normal_(std=1.0)
    return TokenValue(model)


@pytest.fixture
def server(policy: CausalPolicy, value: TokenValue) -> Iterator[FakeVllm]:
    with FakeVllm(policy, value) as fake:
        yield fake


def play(make: Any, policy: CausalPolicy, sampler: Any, indices: list[int], **how: Any) -> dict[int, Episode]:
    limits = Sampling(temperature=0.8, max_new_tokens=6)
    return dict(rollout(make, policy, FORMAT, indices, limits, seed=3, sampler=sampler, **how))


@pytest.mark.parametrize("make", [MAKE_GAME, MAKE_SUM], ids=["turns", "answer"])
def test_episodes_hold_what_the_policy_says(server, meet, policy, make):
    sampler = meet(server, policy=policy, in_flight=3)
    indices = [0, 1, 2, 3, 0, 1]
    played = play(make, policy, sampler, indices)
    assert sorted(played) == list(range(6))
    worst = audit_episodes(policy, list(played.values()), 6, 0.01, "these")
    assert worst is not None and worst < 1e-4
    again = play(make, policy, meet(server, policy=policy, in_flight=2), indices[::-1])
    # Each row draws from its own source, whatever stands beside it.
    assert {tuple(e.tokens.tolist()) for e in again.values()} == {tuple(e.tokens.tolist()) for e in played.values()}
    assert server.most_at_once <= 3


def test_a_constrained_policy_says_what_is_admitted(server, meet, policy):
    played = play(MAKE_GAME, policy, meet(server, policy=policy), [0, 1, 2], constrained=True)
    said = {m["content"] for e in played.values() for m in e.messages if m["role"] == "assistant"}
    assert said <= {"left", "right", "leap"}
    assert all(episode.terminated for episode in played.values())


def test_an_episode_goes_on_while_another_waits(server, meet, policy):
    """All other episodes, of two turns each, more than are on their way at once, end before the first turn of one."""
    sampler = meet(server, policy=policy, in_flight=2)
    ended = threading.Event()
    stuck = FORMAT.opening([{"role": "user", "content": "door 0?"}])
    server.delay = lambda body: 0.0 * (body["prompt"] == stuck and ended.wait(30))
    found = []
    limits = Sampling(temperature=0.8, max_new_tokens=4)
    for slot, episode in rollout(MAKE_GAME, policy, FORMAT, list(range(6)), limits, seed=0, sampler=sampler):
        found.append(slot)
        assert episode.num_action_tokens
        if len(found) == 5:
            ended.set()
    assert len(found) == 6 and found[-1] == 0
    assert server.most_at_once == 2


def test_what_differs_is_refused_and_nothing_is_kept(server, meet, policy):
    how = CollectSettings(samples=2, sampling=Sampling(temperature=0.8, max_new_tokens=6))
    gather = partial(collect, MAKE_GAME, policy, FORMAT, range(6), how, seed=0, selection_seed=0, provenance={})
    buffer = gather(sampler=meet(server, policy=policy))
    assert len(buffer) == 12
    sampler = meet(server, policy=policy)
    server.lie = "hotter"
    with pytest.raises(ServerError, match=r"what was collected is refused: scored again .* differ by up to"):
        gather(sampler=sampler)


def test_no_audit_is_made_where_none_is_wanted(server, meet, policy):
    sampler = meet(server, policy=policy, audit=0)
    server.lie = "hotter"
    assert len(play(MAKE_GAME, policy, sampler, [0, 1, 2])) == 3
    sampler.audit(list(play(MAKE_GAME, policy, sampler, [0, 1]).values()), "these")


SEARCHES = [
    (MAKE_SUM, Greedy()),
    (MAKE_SUM, BestOfN(samples=3)),
    (MAKE_SUM, StepBeam(keep=1, expand=3)),
    (MAKE_GAME, BestOfKActions(actions=3)),
]


@pytest.mark.parametrize(("make", "search"), SEARCHES, ids=[type(search).__name__ for _, search in SEARCHES])
def test_every_kind_of_search_answers_by_a_server(server, meet, lines, policy, value, make, search: Search):
    sampler = meet(server, policy=policy, step_tokens=5)
    judge = ServerValue(lines(server, sampler.settings), value, sampler.settings, version="a")
    limits = Sampling(max_new_tokens=8)
    player = Player(make, policy, FORMAT, [0, 1, 2], limits, seed=1, value=judge, sampler=sampler)
    answers = search.answer(player)
    assert all(answer is not None and answer.episode.num_action_tokens for answer in answers)
    own = Player(make, policy, FORMAT, [0, 1, 2], limits, seed=1, value=value, sampler=sampler)
    for answer, same in zip(answers, search.answer(own), strict=True):
        assert np.array_equal(answer.episode.tokens, same.episode.tokens)
        values = [candidate.value for candidate in answer.candidates if candidate.value is not None]
        twins = [candidate.value for candidate in same.candidates if candidate.value is not None]
        assert values == pytest.approx(twins, abs=1e-4)


VALUE_LIES = {
    "sigmoid": "because a sigmoid is applied to it; start it with --pooler-config .*use_activation",
    "softmax": "because a softmax is applied to it",
    "other value": r"differs by up to 1 from the value network's: it has other weights",
    "last only": "gives 1 values for 8 tokens.*one V after each token",
    "no values": "gives no values: start the server with --runner pooling",
}


@pytest.mark.parametrize("lie", VALUE_LIES)
def test_a_lie_about_v_is_a_sentence(server, lines, value, lie):
    server.lie = lie
    settings = SamplerSettings()
    with pytest.raises(ServerError, match=VALUE_LIES[lie]) as error:
        ServerValue(lines(server, settings), value, settings, version="a")
    assert server.url in str(error.value)


def test_a_v_that_changes_later_is_found(server, lines, value):
    settings = SamplerSettings()
    judge = ServerValue(lines(server, settings), value, settings, version="a")
    transcripts = [list(np.random.default_rng(i).integers(3, VOCABULARY, 12).tolist()) for i in range(64)]
    expected, _ = value.values_after(transcripts, [Prefix()] * 64)
    values, read = judge.values_after(transcripts, [])
    np.testing.assert_allclose(values, expected, atol=1e-4)
    assert all(len(prefix) == 0 for prefix in read)
    server.lie = "sigmoid"
    with pytest.raises(ServerError, match="a sigmoid"):
        judge.values_after(transcripts, [])
