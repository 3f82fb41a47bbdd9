"""What an episode that a limit cut off teaches: its rewards, nothing, or V of the state that it had come to."""

import dataclasses
import logging

import pytest
import torch
from tabular import TablePolicy, TableValue, tiny_models

from oreo_algos import EpisodeBuffer, algos
from oreo_algos.algos import (
    AdvantageWeighted,
    ConstantBaseline,
    DirectAdvantage,
    Dpo,
    Dqo,
    Kto,
    MoreSft,
    Oreo,
    RejectionSampling,
    Sft,
)
from oreo_algos.algos.selection import NothingToLearnError
from oreo_algos.batch import collate
from oreo_algos.models import Models
from oreo_algos.segments import regroup, reward_to_go, with_final_values
from oreo_algos.training.settings import TrainerConfig
from oreo_algos.training.trainer import train

A, B, END = 1, 2, 3
LEVELS = ("token", "step", "response")
BOOTSTRAPPING = [
    *(Oreo(granularity=level, on_truncation="bootstrap") for level in LEVELS),
    *(Oreo(consistency=name, on_truncation="bootstrap") for name in ("one_step", "full_gradient")),
    *(Dqo(on_truncation="bootstrap", trace=trace) for trace in (0.0, 0.95)),
    *(AdvantageWeighted(granularity=level, on_truncation="bootstrap") for level in LEVELS),
    AdvantageWeighted(trace=0.0, expectile=0.7, on_truncation="bootstrap"),
]


def cut(episode, **fields):
    """The same episode, ended by a limit."""
    return dataclasses.replace(episode, terminated=False, truncated=True, **({"success": False} | fields))


@pytest.fixture
def chain(make_episode):
    """From A always to B, where every episode is cut off; from B to the end, worth 3/4 on average."""
    fields = {"terminated": False, "truncated": True, "success": False}
    episodes = [make_episode([-1, 0], [0.0], tokens=[A, B], **fields) for _ in range(4)]
    for index, reward in enumerate((1.0, 1.0, 1.0, 0.0)):
        episodes.append(make_episode([-1, 0], [reward], tokens=[B, END], task_id=f"task-{index}"))
    return EpisodeBuffer(episodes)


def table_value(chain, tmp_path, algorithm):
    models = Models(TablePolicy(torch.zeros(5, 5)), TablePolicy(torch.zeros(5, 5)), TableValue(5))
    result = train(algorithm, models, chain, TrainerConfig(tracker="none"), tmp_path)
    return models.value.table.tolist(), result


@pytest.mark.parametrize(
    ("algorithm", "choice", "of_a"),
    [
        (Oreo, "fail", 0.0),
        (Oreo, "drop", 0.0),
        (Oreo, "bootstrap", 0.75),
        (Dqo, "bootstrap", 0.75),
        (DirectAdvantage, "bootstrap", 0.75),
        (AdvantageWeighted, "bootstrap", 0.75),
    ],
)
def test_the_value_before_a_cut_is_what_the_state_there_is_worth(chain, tmp_path, algorithm, choice, of_a):
    """By hand: V(B) = 3/4 is the mean of what B leads to; V(A) = V(B) where a cut is no failure, else 0."""
    settings = {"value_lr": 0.1, "batch_size": 8, "on_truncation": choice}
    if algorithm is Oreo:
        settings |= {"value_only": True, "epochs": 80}
    else:
        settings |= {"value_warmup_steps": 80, "policy_lr": 1e-9}
    value, result = table_value(chain, tmp_path, algorithm(**settings))
    assert value[B] == pytest.approx(0.75, abs=0.02) and value[A] == pytest.approx(of_a, abs=0.02)
    dropped = 4 if choice == "drop" else 0
    assert (result.examples, result.dropped_cut_off) == (8 - dropped, dropped)


@pytest.mark.parametrize("algorithm", BOOTSTRAPPING, ids=lambda one: type(one).__name__)
def test_bootstrapping_is_a_last_reward_of_v_after_the_transcript(random_episodes, algorithm):
    """V is asked of every episode alone, so that padding and other rows tell nothing."""
    whole = random_episodes(6, seed=3)
    episodes = [cut(e) if i % 2 else e for i, e in enumerate(whole)]
    models = tiny_models()
    after = [models.value.token_values(collate([e]))[0, e.num_tokens].item() for e in episodes]
    paid = collate(episodes)
    rewards = paid.rewards.double()
    for row in (1, 3, 5):
        rewards[row, episodes[row].num_steps - 1] += after[row]
    fail = dataclasses.replace(algorithm, on_truncation="fail")
    found, expected = (
        algorithm.losses(collate(episodes), models),
        fail.losses(dataclasses.replace(paid, rewards=rewards), models),
    )
    networks = [*models.policy.parameters(), *models.value.parameters()]
    for name, term in expected.terms.items():
        assert found.terms[name].item() == pytest.approx(term.item(), rel=1e-6)
        pairs = (torch.autograd.grad(each, networks, allow_unused=True) for each in (found.terms[name], term))
        for one, other in zip(*pairs, strict=True):
            assert (one is None) == (other is None) and (one is None or torch.allclose(one, other, rtol=1e-6))
    without = fail.losses(collate(episodes), models)
    assert without.terms["value"].item() != pytest.approx(found.terms["value"].item(), rel=1e-6)
    assert without.terms["value"].item() == fail.losses(collate(whole), models).terms["value"].item()


@pytest.mark.parametrize("level", LEVELS)
def test_every_step_before_a_cut_is_worth_what_follows_and_v_there(make_episode, level):
    steps = [-1, 0, 0, -1, 1]
    episodes = [cut(make_episode(steps, [0.25, 0.5])), make_episode([-1, 0], [1.0])]
    values = torch.tensor([[0.0, 9, 9, 9, 9, 0.125], [0, 9, 9, 9, 9, 9]], requires_grad=True)
    batch = regroup(with_final_values(collate(episodes), values), level)
    returns = reward_to_go(batch.rewards, batch.step_mask)
    expected = {"token": [0.875, 0.875, 0.625], "step": [0.875, 0.625], "response": [0.875]}[level]
    assert returns[0, : len(expected)].tolist() == expected and returns[1, 0] == 1
    assert not batch.rewards.requires_grad, "V of the cut is a number"


def test_only_what_a_limit_ended_unfinished_is_cut_off(make_episode, tmp_path):
    fields = [
        {"terminated": terminated, "truncated": truncated, "success": success}
        for terminated in (False, True)
        for truncated in (False, True)
        for success in (False, True)
    ]
    episodes = [make_episode([-1, 0], [0.0], **each) for each in fields]
    cut_off = [each == {"terminated": False, "truncated": True, "success": False} for each in fields]
    assert [e.cut_off for e in episodes] == collate(episodes).cut_off.tolist() == cut_off
    EpisodeBuffer(episodes).save(tmp_path / "buffer")
    for buffer in (EpisodeBuffer(episodes), EpisodeBuffer.load(tmp_path / "buffer")):
        assert buffer.columns.cut_off.tolist() == cut_off


@pytest.mark.parametrize("algorithm", [ConstantBaseline, Dpo, Kto, MoreSft, RejectionSampling, Sft])
def test_what_has_no_value_network_cannot_bootstrap_and_can_drop(algorithm, chain):
    with pytest.raises(
        ValueError, match=rf"on_truncation=bootstrap .*{algorithm.__name__} learns from no V; choose fail"
    ):
        algorithm(on_truncation="bootstrap")
    assert len(algorithm(on_truncation="drop").learnable(chain)) == 4
    assert algorithm().learnable(chain) is chain, "the paper's: it failed"


def test_all_that_learn_from_a_value_bootstrap_and_no_others():
    classes = [kind for kind in map(vars(algos).get, algos.__all__) if issubclass(kind, algos.Algorithm)]
    assert {kind.__name__: kind.bootstraps for kind in classes} == {
        kind.__name__: "value" in kind.needs for kind in classes
    }


def test_a_misspelt_choice_offers_the_right_one():
    with pytest.raises(ValueError, match="on_truncation must be one of fail, drop, bootstrap"):
        Oreo(on_truncation="bootstraps")


def test_what_is_dropped_is_said_and_nothing_left_is_refused(chain, tmp_path, caplog):
    models = Models(TablePolicy(torch.zeros(5, 5)))
    with caplog.at_level(logging.WARNING):
        result = train(Sft(on_truncation="drop", epochs=1), models, chain, TrainerConfig(tracker="none"), tmp_path)
    assert "4 of 8 episodes were cut off by a limit and are left out (on_truncation=drop)" in caplog.text
    assert "4 episodes cut off left out" in repr(result)
    with pytest.raises(NothingToLearnError, match=r"every one of the 4 episodes.*on_truncation=drop leaves them out"):
        train(Sft(on_truncation="drop"), models, chain[:4], TrainerConfig(tracker="none"), tmp_path / "none")
