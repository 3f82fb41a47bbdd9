"""Indexed attention where scores are equal: what is said of a token does not hang on how many come after it."""

import pytest
import torch
from families import build
from transformers import PreTrainedModel

from oreo_agents import CausalPolicy
from oreo_agents.episodes.generate import Sampling, generate
from oreo_agents.episodes.sources import row_source
from oreo_agents.networks import index_ties
from oreo_agents.networks.index_ties import indexers
from oreo_agents.networks.miniature import tried

# The embedding of token 0, the padding, is 0: there all keys have the same score.
ROW = [5, 6, 7, 286, 175, 280, 293, 2, 68, 265, 0, 228, 221]


class Chooser(torch.nn.Module):
    """Takes the best two of some scores."""

    def forward(self, scores: torch.Tensor, dim: int = -1) -> torch.Tensor:
        return scores.topk(2, dim=dim).indices


class ChooserIndexer(Chooser):
    """The same, by the name that transformers gives to what chooses keys."""


def logits(model: PreTrainedModel, row: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([row]), use_cache=False).logits[0]


@pytest.mark.parametrize("dim", [0, -1])
def test_the_first_of_equal_scores_are_taken(dim: int):
    model = torch.nn.ModuleList([ChooserIndexer(), Chooser()])
    index_ties.settle(model)
    for length in (3, 5, 40, 300):
        rows = torch.zeros(3, length)
        rows[1, -1] = 1.0  # the best, then the first of the others
        rows[2] = torch.arange(length)  # none are equal
        found = model[0](rows if dim == -1 else rows.T, dim)
        expected = [[0, 1], [length - 1, 0], [length - 1, length - 2]]
        assert (found if dim == -1 else found.T).tolist() == expected
        assert torch.equal(model[1](rows), rows.topk(2).indices)


def test_an_error_in_an_indexer_leaves_topk_as_it_was():
    model = torch.nn.ModuleList([ChooserIndexer()])
    index_ties.settle(model)
    with pytest.raises(AttributeError):
        model[0]("no scores")
    scores = torch.zeros(2, 300)
    assert torch.equal(scores.topk(2).indices, Chooser()(scores))
    assert torch.overrides._get_current_function_mode_stack() == []


@pytest.mark.parametrize("family", ["deepseek_v32", "hy_v4"])
def test_a_family_says_the_same_of_a_token_however_many_come_after_it(family: str):
    policy = CausalPolicy(build(family))
    whole = logits(policy.plain, ROW)
    for end in range(6, len(ROW)):
        torch.testing.assert_close(logits(policy.plain, ROW[:end]), whole[:end], atol=1e-4, rtol=1e-4)
    copy = policy.frozen_copy()
    torch.testing.assert_close(logits(copy.plain, ROW[:11]), whole[:11], atol=1e-4, rtol=1e-4)
    # Tokens that are drawn beside padding, the padding's own id among them.
    prompts = [ROW[:11], [9, 0], [4, 0, 8, 8, 0, 1]]
    sources = [row_source(0, index) for index in range(3)]
    for prompt, sample in zip(
        prompts, generate(policy, prompts, [], Sampling(max_new_tokens=4), sources=sources), strict=True
    ):
        row = prompt + sample.tokens
        logp = logits(policy.plain, row).log_softmax(-1)[len(prompt) - 1 : -1]
        said = logp.gather(1, torch.tensor(sample.tokens)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(sample.logprobs), said, atol=1e-4, rtol=1e-4)


def test_a_model_whose_outputs_hang_on_what_follows_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(index_ties, "settle", lambda model: None)
    with pytest.raises(ValueError, match=r"not causal .*changes with how many come after it"):
        # Longer than a trial, as of real checkpoints.
        CausalPolicy(build("deepseek_v32", index_topk=2048))


def test_a_trial_reads_few_keys_and_leaves_the_model_as_it_was():
    model = build("deepseek_v32", index_topk=2048)
    seen = []

    def trial() -> None:
        seen.extend(indexer.index_topk for indexer in indexers(model))

    assert tried(model, trial) is None
    assert {*seen} == {4} and {indexer.index_topk for indexer in indexers(model)} == {2048}
