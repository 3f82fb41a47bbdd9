"""Which optimiser trains which parameter, and Muon against torch's own."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from oreo_algos.algos import Sft
from oreo_algos.training.optimizers import Muon, make_optimizers, orthogonalise


class Stack(nn.Module):
    """Embedding, two layers of several matrices, head."""

    def __init__(self):
        """Make all of it."""
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(6, 15), nn.ReLU(), nn.Linear(15, 6)) for _ in range(2))
        self.head = nn.Linear(6, 11)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for layer in self.layers:
            x = x + layer(x)
        return self.head(x)


@pytest.fixture
def stack():
    torch.manual_seed(0)
    return Stack()


def loss(model, seed=0):
    tokens = torch.randint(11, (2, 9), generator=torch.Generator().manual_seed(seed))
    return nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


def train(model, optimizers, seeds):
    for seed in seeds:
        loss(model, seed).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def test_muon_trains_the_matrices_of_the_layers_and_adamw_the_rest(stack):
    adamw, muon = make_optimizers(stack, "muon", lr=0.1, weight_decay=0.0)
    assert (type(adamw), type(muon)) == (AdamW, Muon)
    hidden = {name for name, p in stack.named_parameters() if any(p is q for q in muon.param_groups[0]["params"])}
    assert hidden == {f"layers.{i}.{j}.weight" for i in (0, 1) for j in (0, 2)}
    parameters = [*adamw.param_groups[0]["params"], *muon.param_groups[0]["params"]]
    assert {id(p) for p in parameters} == {id(p) for p in stack.parameters()}
    assert len(parameters) == len(list(stack.parameters()))


def test_frozen_parameters_are_in_no_optimizer(stack):
    stack.layers[0].requires_grad_(False)
    stack.embedding.requires_grad_(False)
    made = make_optimizers(stack, "muon", lr=0.1, weight_decay=0.0)
    held = {id(p) for optimizer in made for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in [*stack.layers[1].parameters(), *stack.head.parameters()]}


def test_without_a_layer_muon_is_refused():
    with pytest.raises(ValueError, match="optimizer=muon is for the matrices of layers, and Linear trains none"):
        make_optimizers(nn.Linear(3, 3), "muon", lr=0.1, weight_decay=0.0)


def test_an_unknown_optimizer_is_refused_with_the_closest():
    with pytest.raises(ValueError, match="must be one of adamw, muon, got 'mun'; did you mean 'muon'"):
        Sft(optimizer="mun")


@pytest.mark.parametrize("shape", [(8, 8), (24, 8), (8, 24), (3, 5, 7)])
def test_singular_values_become_about_one_and_vectors_stay(shape):
    torch.manual_seed(1)
    matrices = torch.randn(shape, dtype=torch.float64)
    u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
    found = u.mT @ orthogonalise(matrices) @ vh.mT
    values = torch.diagonal(found, dim1=-2, dim2=-1)
    clear = s > 0.1 * s.amax(dim=-1, keepdim=True)
    assert ((values > 0.6) & (values < 1.3))[clear].all()
    assert torch.allclose(found, torch.diag_embed(values), atol=1e-10)


def test_a_step_is_that_of_torch_with_the_size_of_an_adamw_step(stack):
    """torch's own computes in bfloat16, so that directions agree to some percent."""
    other = copy.deepcopy(stack)
    settings = {"lr": 0.02, "weight_decay": 0.1}
    hidden, theirs = ([p for p in model.layers.parameters() if p.ndim == 2] for model in (stack, other))
    before = [p.detach().clone() for p in hidden]
    train(stack, [Muon(hidden, **settings)], range(3))
    peer = torch.optim.Muon(theirs, momentum=0.95, adjust_lr_fn="match_rms_adamw", **settings)
    train(other, [peer], range(3))
    for p, q, start in zip(hidden, theirs, before, strict=True):
        assert (p - q).norm() < 0.05 * (p - start).norm()


def test_a_restored_optimizer_goes_on_bit_for_bit(stack):
    made = make_optimizers(stack, "muon", lr=0.05, weight_decay=0.0)
    train(stack, made, range(3))
    later = copy.deepcopy(stack)
    states = copy.deepcopy([optimizer.state_dict() for optimizer in made])
    train(stack, made, range(3, 6))
    fresh = make_optimizers(later, "muon", lr=0.05, weight_decay=0.0)
    for optimizer, state in zip(fresh, states, strict=True):
        optimizer.load_state_dict(state)
    train(later, fresh, range(3, 6))
    assert all(torch.equal(p, q) for p, q in zip(stack.parameters(), later.parameters(), strict=True))


def test_a_matrix_without_a_gradient_stays(stack):
    (_, muon), read, unread = (
        make_optimizers(stack, "muon", lr=0.1, weight_decay=0.1),
        *(layer[0].weight for layer in stack.layers),
    )
    before = [p.detach().clone() for p in (read, unread)]
    loss(stack).backward()
    unread.grad = None
    muon.step()
    assert not torch.equal(read, before[0])
    assert torch.equal(unread, before[1])
