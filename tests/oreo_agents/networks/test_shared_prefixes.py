"""What documents begin alike with is read once, and changes nothing that is said of them."""

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from packing_models import alone, build, weights_of
from torch import Tensor

from oreo_agents.networks import packing
from oreo_agents.networks.checkpoints import base_model
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.shared_prefixes import cut
from oreo_algos import Models
from oreo_algos.algos import Dpo
from oreo_algos.batch import Batch

PACKED = ["llama", "qwen2", "qwen3", "gpt2", "cohere", "mistral", "gemma3"]


def make_batch(rows: list[list[int]], prompt: int = 1) -> Batch:
    """Documents of these tokens, of which all but the first ``prompt`` are an action's."""
    lengths = torch.tensor([len(row) for row in rows])
    columns = torch.arange(int(lengths.max()))
    real = columns < lengths[:, None]
    tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    step_id = torch.where(real & (columns >= prompt), 0, -1)
    each = torch.ones(len(rows), 1, dtype=torch.bool)
    return Batch(tokens, step_id, step_id == 0, real, each.float(), each, each[:, 0])


def forest(seed: int, *, branches: int = 2, depth: int = 3) -> list[list[int]]:
    """Documents that part again and again; some are the beginning of others, some are there twice."""
    rng = np.random.default_rng(seed)
    rows = [rng.integers(3, 9, rng.integers(1, 7)).tolist()]
    for _ in range(depth):
        rows += [row + rng.integers(3, 9, rng.integers(1, 6)).tolist() for row in rows for _ in range(branches - 1)]
    rows += [rng.integers(3, 9, 5).tolist(), list(rows[0]), list(rows[-1])]
    return [rows[i] for i in rng.permutation(len(rows))]


@pytest.mark.parametrize("least", [1, 4, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_pieces_are_the_documents_and_save_what_they_are_to_save(seed: int, least: int):
    rows = forest(seed)
    padded = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    documents = cut(padded, [len(row) for row in rows], least)
    for row, pieces in zip(rows, documents, strict=True):
        assert [token for p in pieces for token in rows[p.document][p.start : p.end]] == row
        assert [p.before for p in pieces] == [pieces[:i] for i in range(len(pieces))]
        assert all(len(p) for p in pieces)
    readers = {p: sum(p in pieces for pieces in documents) for p in itertools.chain(*documents)}
    assert all((n - 1) * len(p) >= least for p, n in readers.items() if n > 1)
    distinct = {tuple(row[: i + 1]) for row in rows for i in range(len(row))}
    if least == 1:
        assert sum(map(len, readers)) == len(distinct)
    if least == 1000:
        assert sum(map(len, readers)) == sum(map(len, rows))


def test_documents_that_grow_by_a_token_each_are_cut_without_end_of_the_stack():
    padded = np.full((1500, 1501), 7)
    documents = cut(padded, [*range(1, 1501)], 1)
    assert max(map(len, documents)) == 1500


def test_a_short_beginning_of_long_documents_is_read_in_each():
    """A mask over what follows would cost more than the beginning; what two of them share beyond it may be worth it."""
    rng = np.random.default_rng(0)
    rows = rng.integers(3, 250, (4, 30))
    rows[:, :4], rows[1, :25] = rows[0, :4], rows[0, :25]
    lengths, pairs = [30] * 4, 4 * 26**2
    assert len({documents[0] for documents in cut(rows, lengths, 1, pairs / 12)}) == 1
    documents = cut(rows, lengths, 1, pairs / 12 - 1)
    assert documents[0][0] is documents[1][0] and len(documents[0][0]) == 25
    assert [len(pieces) for pieces in documents] == [2, 2, 1, 1]
    long = torch.from_numpy(rng.integers(3, 250, (8, 1000)))
    long[:, :20] = long[0, :20]
    real = torch.ones_like(long, dtype=torch.bool)
    assert not packing._lay_out(long, real, packing._LEAST_SHARED).masks
    assert packing._lay_out(long[:, :200], real[:, :200], packing._LEAST_SHARED).masks


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def assert_close_gradients(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    total = sum(gradient.square().sum() for gradient in expected.values()).sqrt()
    assert sum((found[name] - expected[name]).square().sum() for name in expected).sqrt() < 2e-5 * total


@pytest.mark.parametrize("family", PACKED)
@pytest.mark.parametrize("padding", [0, 16])
def test_outputs_and_gradients_are_those_of_each_document_alone(
    family: str, padding: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(packing, "_PADDING_PER_CALL", padding)
    monkeypatch.setattr(packing, "_LEAST_SHARED", 2)
    model, batch = build(family), make_batch(forest(1))
    other = copy.deepcopy(model)
    assert packing.enable(model) == 64
    expected = alone(other, batch)
    found = packing.outputs_at(base_model(model), batch, batch.attention, 64)
    assert packing.pack(batch).masks
    assert packing.pack(batch).position_ids.shape[1] < 0.8 * batch.attention.sum()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    weights = weights_of(tuple(expected.shape))
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    assert_close_gradients(gradients(model), gradients(other))


@pytest.mark.parametrize("loss_type", ["sigmoid", "ipo"])
def test_dpo_reads_the_prompt_of_a_pair_once_and_learns_the_same(loss_type: Any, monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    prompts = [rng.integers(3, 250, 20).tolist() for _ in range(4)]
    rows = [prompt + rng.integers(3, 250, rng.integers(4, 12)).tolist() for prompt in prompts for _ in range(2)]
    outcomes, read = [], []
    for least in (packing._LEAST_SHARED, 10**6):
        monkeypatch.setattr(packing, "_LEAST_SHARED", least)
        policy, reference = CausalPolicy(build("llama")), CausalPolicy(build("llama")).requires_grad_(False)
        with torch.no_grad():
            for number, parameter in enumerate(reference.parameters()):
                parameter.add_(0.05 * weights_of(tuple(parameter.shape), number))
        policy.plain.get_input_embeddings().register_forward_hook(lambda *args: read.append(args[1][0].numel()))
        losses = Dpo(loss_type=loss_type).losses(make_batch(rows, 20), Models(policy, reference))
        losses.terms["policy"].backward()
        outcomes.append((losses.terms["policy"].item(), losses.metrics, gradients(policy)))
    shared, whole = read
    assert whole - shared >= 4 * 20 - packing._PADDING_PER_CALL
    (loss, metrics, found), (other_loss, other_metrics, expected) = outcomes
    assert loss == pytest.approx(other_loss, rel=1e-5)
    assert metrics == pytest.approx(other_metrics, abs=1e-4)
    assert_close_gradients(found, expected)


def test_little_that_is_alike_is_read_as_it_stands():
    batch = make_batch([[3, 4, 5, 6, 7], [3, 4, 5, 8, 9]])
    assert not packing.pack(batch).masks


def test_bfloat16_autocast_reads_a_shared_prompt_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packing, "_LEAST_SHARED", 2)
    model, batch = build("llama"), make_batch(forest(2))
    exact = alone(model, batch)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        padded = base_model(model)(batch.tokens, use_cache=False).last_hidden_state[batch.attention]
        packed = packing.outputs_at(base_model(model), batch, batch.attention, packing.enable(model))
    assert packing.pack(batch).masks
    assert (packed - exact).square().mean() < 1.2 * (padded - exact).square().mean() + 1e-8
