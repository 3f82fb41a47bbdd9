"""Token by token the best of a few, against all that could have been said."""

from collections.abc import Sequence

import pytest
import torch
from reading_policy import FORMAT, MAKE_ENV, TrueValue, answers, make_player, solved, success_probability, table
from tiny_models import make_model

from oreo_agents import CausalPolicy, Sampling
from oreo_agents.search import Greedy, Player, TokenGuide
from oreo_algos.episode import Episode

__all__ = ["table"]

TAU = 0.3
LIMITS = Sampling(max_new_tokens=4, batch_size=256)


def worth(text: str) -> float:
    """Some number in [0, 1) that hangs on all of a text."""
    return sum((k + 1) * ord(letter) for k, letter in enumerate(text)) % 97 / 97


@pytest.fixture(scope="module")
def policy() -> CausalPolicy:
    return CausalPolicy(make_model("llama", context=128, init_std=0.2, vocabulary=len(FORMAT.tokenizer)))


def guided(policy: CausalPolicy, search: TokenGuide | Greedy, tasks: int = 2) -> tuple[list[Episode], Player]:
    player = Player(MAKE_ENV, policy, FORMAT, range(tasks), LIMITS, seed=0, value=TrueValue(worth))  # type: ignore[arg-type]
    return [answer.episode for answer in answers(search, player)], player


def said(episode: Episode) -> list[int]:
    return episode.tokens[episode.step_id >= 0].tolist()


@torch.no_grad()
def best_of_all(policy: CausalPolicy, prompt: Sequence[int]) -> list[int]:
    """Say at each place the best of all tokens, each text read from its beginning."""
    tokens = list(prompt)
    for _ in range(LIMITS.max_new_tokens):
        logprobs = policy.model(torch.tensor([tokens])).logits[0, -1].double().log_softmax(dim=-1)
        ends = FORMAT.end_ids
        values = [worth(FORMAT.decode(tokens if k in ends else [*tokens, k])) for k in range(len(logprobs))]
        tokens.append(int((torch.tensor(values) + TAU * logprobs).argmax()))
        if tokens[-1] in ends:
            break
    return tokens[len(prompt) :]


def test_with_proposals_enough_it_says_what_is_best_of_all_tokens(policy: CausalPolicy):
    episodes, player = guided(policy, TokenGuide(tau=TAU, proposals=250, temperature=2.0))
    greedy, _ = guided(policy, Greedy())
    assert [said(episode) for episode in episodes] != [said(episode) for episode in greedy]
    for episode in episodes:
        prompt = episode.tokens[: int((episode.step_id >= 0).argmax())].tolist()
        assert said(episode) == best_of_all(policy, prompt)[: len(said(episode))]
    assert player.value is not None and player.value.read > 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("search", [TokenGuide(proposals=1), TokenGuide(tau=1e9, proposals=8)])
def test_without_a_choice_or_by_the_policy_alone_it_is_greedy(policy: CausalPolicy, search: TokenGuide):
    episodes, player = guided(policy, search)
    assert [said(episode) for episode in episodes] == [said(episode) for episode in guided(policy, Greedy())[0]]
    assert (player.value.read > 0) == (search.proposals > 1)  # type: ignore[union-attr]


@pytest.mark.usefixtures("table")
def test_with_the_true_value_it_finds_every_answer_and_counts_what_it_took():
    search = TokenGuide(tau=0, proposals=24)
    player = make_player(success_probability)
    found = answers(search, player)
    assert all(answer.episode.success for answer in found) and not all(solved(Greedy(), make_player()))
    assert sum(answer.value_tokens for answer in found) == player.value.read  # type: ignore[union-attr]
    assert sum(answer.tokens for answer in found) == 24 * sum(answer.episode.num_action_tokens for answer in found)
    assert all(answer.episode.num_steps == episode.num_steps for answer, episode in zip(found, plain(), strict=True))


def plain() -> list[Episode]:
    return [answer.episode for answer in answers(Greedy(), make_player())]


def test_settings_that_choose_nothing_are_refused():
    with pytest.raises(ValueError, match="proposals must be at least 1, got 0"):
        TokenGuide(proposals=0)
    with pytest.raises(ValueError, match="temperature must be > 0 to draw different tokens, got 0"):
        TokenGuide(temperature=0)
    assert TokenGuide().sized(3).size == "3"
