"""What a checkpoint holds of networks that are trained in part, and that it is enough."""

import copy

import pytest
import torch
from tabular import parameters, tiny_models

from oreo_algos import EpisodeBuffer, TrainerConfig, train
from oreo_algos.algos import Oreo
from oreo_algos.storage.checkpoint import list_checkpoints, load_last_checkpoint

ALGORITHM = Oreo(policy_lr=0.01, value_lr=0.01, batch_size=4, epochs=2, target_decay=0.5)


def models():
    """Networks of which all but the heads is frozen, as the base below adapters is."""
    made = tiny_models(dropout=0.3, moved=False)
    for network in (made.policy, made.value):
        for name, parameter in network.named_parameters():
            parameter.requires_grad_("head" in name)
    return made


@pytest.fixture
def buffer(random_episodes):
    return EpisodeBuffer(random_episodes(14))


def run(buffer, folder, *, seed=0, stop_at=None):
    def evaluate(step):
        if step == stop_at:
            raise KeyboardInterrupt
        return {}

    networks = models()
    torch.manual_seed(seed)
    train(ALGORITHM, networks, buffer, TrainerConfig(evaluate_every=1, checkpoint_every=2), folder, evaluate=evaluate)
    return networks


def test_a_checkpoint_holds_what_is_trained_and_resuming_from_it_is_bit_equal(buffer, tmp_path):
    whole = run(buffer, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(buffer, tmp_path / "parts", stop_at=6)
    state = load_last_checkpoint(tmp_path / "parts")
    assert state["step"] == 4
    saved = [*state["networks"]["policy"], *state["networks"]["value"], state["target"]]
    assert [list(part) for part in saved] == [[n for n in part if "head" in n] for part in saved] and all(saved)
    parts = run(buffer, tmp_path / "parts", seed=1)
    for kind in ("policy", "value", "target"):
        expected = parameters(getattr(whole, kind))
        assert all(torch.equal(p, expected[name]) for name, p in parameters(getattr(parts, kind)).items()), kind


def test_an_older_checkpoint_that_holds_everything_is_continued(buffer, tmp_path):
    whole = run(buffer, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(buffer, tmp_path / "parts", stop_at=6)
    ((_, path),) = list_checkpoints(tmp_path / "parts")
    state = load_last_checkpoint(tmp_path / "parts")
    fresh = models()
    for kind in ("policy", "value"):
        state["networks"][kind] = [getattr(fresh, kind).state_dict() | state["networks"][kind][0]]
    state["target"] = fresh.policy.state_dict() | state["target"]
    torch.save(state, path / "state.pt")
    parts = run(buffer, tmp_path / "parts", seed=1)
    assert all(torch.equal(p, parameters(whole.policy)[n]) for n, p in parameters(parts.policy).items())


def test_a_frozen_copy_shares_what_is_frozen_anyway():
    from oreo_algos.algos.adaptation import frozen_copy

    policy = models().policy
    twin = frozen_copy(policy)
    before = copy.deepcopy(parameters(twin))
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(1)
    shared = {name for name, p in policy.named_parameters() if p is dict(twin.named_parameters())[name]}
    assert shared == {name for name, p in policy.named_parameters() if not p.requires_grad} and shared
    assert all(torch.equal(p, before[name]) and not p.requires_grad for name, p in twin.named_parameters())
