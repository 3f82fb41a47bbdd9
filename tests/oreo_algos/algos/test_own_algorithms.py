"""Algorithms as a user would write them: numbers of episodes reach their losses, and selections change episodes."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from tabular import parameters, tiny_models

from oreo_algos import EpisodeBuffer, TrainerConfig, train
from oreo_algos.algos import EpisodeAlgorithm, Losses
from oreo_algos.algos.base import score, transcript_log_ratio
from oreo_algos.batch import collate
from oreo_algos.training import trainer
from oreo_algos.training.metrics_writer import read_metrics


@dataclass(frozen=True, kw_only=True)
class Topr(EpisodeAlgorithm):
    """REINFORCE with a baseline a task and truncated importance ratios, after TOPR (arXiv:2503.14286)."""

    policy_lr: float = 0.01
    cap: float = 1.0

    extra: ClassVar = ("behavior_logprobs", "task")

    def begin_step(self, examples, models, micro_batches):
        """Mean return of each task over the examples of the step, by the number of the task."""
        totals: dict[int, list[float]] = {}
        for batch in micro_batches(examples):
            for task, total in zip(batch.extra["task"].tolist(), batch.rewards.sum(dim=1).tolist(), strict=True):
                totals.setdefault(task, []).append(total)
        return {task: float(np.mean(own)) for task, own in totals.items()}

    def losses(self, batch, models, context: Any = None):
        logprobs = models.policy.score(batch).logprobs
        ratio = (logprobs.detach() - batch.extra["behavior_logprobs"]).sum(dim=1).exp().clamp(max=self.cap)
        baseline = torch.tensor([context[task] for task in batch.extra["task"].tolist()])
        advantage = batch.rewards.sum(dim=1) - baseline
        loss = -(ratio * advantage * logprobs.sum(dim=1)).mean()
        return Losses({"policy": loss}, {"ratio": ratio.mean().item()})


@dataclass(frozen=True, kw_only=True)
class Awr(EpisodeAlgorithm):
    """Advantage-weighted regression: the selection gives each episode a weight, and rewards below 0 become 0."""

    policy_lr: float = 0.01
    temperature: float = 0.5

    needs = frozenset({"reference"})
    extra: ClassVar = ("weight",)

    def select(self, buffer, rng):
        mean = float(np.mean([episode.total_reward for episode in buffer]))
        return [
            replace(
                episode,
                info=episode.info | {"weight": float(np.exp((episode.total_reward - mean) / self.temperature))},
                rewards=np.maximum(episode.rewards, 0),
            )
            for episode in buffer
        ]

    def losses(self, batch, models, context: Any = None):
        scores = score(batch, models)
        loss = -(batch.extra["weight"] * scores.logprobs.sum(dim=1)).mean()
        return Losses({"policy": loss}, {"drift": transcript_log_ratio(scores).abs().mean().item()})


def with_behaviour(episodes, policy):
    """Write down what the policy itself says of each token, less a tenth of a nat."""
    rows = policy.score(collate(episodes)).logprobs.detach().numpy()
    return [
        replace(e, behavior_logprobs=np.where(e.step_id >= 0, row[: e.num_tokens] - 0.1, 0))
        for e, row in zip(episodes, rows, strict=True)
    ]


def run(algorithm, buffer, folder, **config):
    models = tiny_models()
    result = train(algorithm, models, buffer, TrainerConfig(**config), folder)
    return models, result


@pytest.fixture
def recorded(random_episodes):
    return EpisodeBuffer(with_behaviour(random_episodes(14), tiny_models().policy))


def test_behaviour_and_task_reach_a_loss(recorded, tmp_path):
    """The loss of the first step by hand, over the whole buffer."""
    run(Topr(batch_size=14, cap=1.05), recorded, tmp_path, micro_batch_tokens=30)
    means = {task: np.mean([recorded[i].total_reward for i in own]) for task, own in recorded.by_task().items()}
    scored = tiny_models().policy.score(collate(list(recorded))).logprobs.detach()
    terms = [
        min(np.exp(0.1 * episode.num_action_tokens), 1.05)
        * (episode.total_reward - means[episode.task_id])
        * row.sum().item()
        for episode, row in zip(recorded, scored, strict=True)
    ]
    [row] = read_metrics(tmp_path)
    assert len(means) == 3
    assert row["train/loss"] == pytest.approx(-np.mean(terms), rel=1e-5)


@pytest.mark.parametrize("algorithm", [Topr(batch_size=5, epochs=2), Awr(batch_size=5, epochs=2)])
def test_micro_batches_change_nothing(algorithm, recorded, tmp_path):
    whole, _ = run(algorithm, recorded, tmp_path / "whole")
    parts, _ = run(algorithm, recorded, tmp_path / "parts", micro_batch_tokens=10)
    for name, parameter in parameters(whole.policy).items():
        torch.testing.assert_close(parameter, parameters(parts.policy)[name], rtol=0, atol=1e-9)


def test_a_selection_that_changes_episodes_is_what_is_learned_from(recorded, tmp_path):
    run(Awr(batch_size=14), recorded, tmp_path)
    mean = np.mean([episode.total_reward for episode in recorded])
    weights = [np.exp((episode.total_reward - mean) / 0.5) for episode in recorded]
    scored = tiny_models().policy.score(collate(list(recorded))).logprobs.detach().sum(dim=1).tolist()
    [row] = read_metrics(tmp_path)
    expected = -np.mean([w * s for w, s in zip(weights, scored, strict=True)])
    assert row["train/loss"] == pytest.approx(expected, rel=1e-5)


@dataclass(frozen=True, kw_only=True)
class Shortened(Awr):
    """Learns from the first action of every second episode, and from the others as they are."""

    def select(self, buffer, rng):
        return [_first_action(e) if i % 2 else e for i, e in enumerate(super().select(buffer, rng))]


def _first_action(episode):
    end = int(np.flatnonzero(episode.step_id == 0)[-1]) + 1
    parts = {
        name: None if getattr(episode, name) is None else getattr(episode, name)[:end]
        for name in ("tokens", "step_id", "loss_mask", "behavior_logprobs")
    }
    return replace(episode, rewards=[episode.total_reward], **parts)


@pytest.mark.parametrize("saved", [True, False])
def test_the_reference_is_asked_about_what_was_selected(saved, recorded, tmp_path, monkeypatch):
    """Rows of episodes that only carry new numbers are those of the buffer; shortened ones are scored anew."""
    buffer = recorded
    if saved:
        buffer.save(tmp_path / "data")
        buffer = EpisodeBuffer.load(tmp_path / "data")
    batches = []
    monkeypatch.setattr(
        trainer, "collate", lambda episodes, **how: batches.append((episodes, how)) or collate(episodes, **how)
    )
    models = tiny_models()
    reference = models.reference
    train(Shortened(batch_size=5), models, buffer, TrainerConfig(), tmp_path / "run")
    seen = [pair for episodes, how in batches for pair in zip(episodes, how["ref_logprobs"], strict=True)]
    assert len(seen) == 14 and sum(episode.num_steps == 1 for episode, _ in seen) >= 7
    for episode, row in seen:
        expected = reference.score(collate([episode])).logprobs[0].detach()
        assert row.tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    if saved:
        assert len(list((tmp_path / "data").glob("ref-*.parquet"))) == 1
        EpisodeBuffer.load(tmp_path / "data")


def test_a_run_that_continues_selects_the_same(recorded, tmp_path):
    whole, _ = run(Shortened(batch_size=5, epochs=2), recorded, tmp_path / "whole")
    stopped: list[int] = []

    def stop(step):
        stopped.append(step)
        if step == 4:
            raise KeyboardInterrupt
        return {}

    config = TrainerConfig(evaluate_every=1, checkpoint_every=3)
    with pytest.raises(KeyboardInterrupt):
        train(Shortened(batch_size=5, epochs=2), tiny_models(), recorded, config, tmp_path / "run", evaluate=stop)
    again, _ = run(Shortened(batch_size=5, epochs=2), recorded, tmp_path / "run")
    for name, parameter in parameters(whole.policy).items():
        assert torch.equal(parameter, parameters(again.policy)[name]), name


@dataclass(frozen=True, kw_only=True)
class Weighted(EpisodeAlgorithm):
    """Trusts that the episodes come with weights."""

    policy_lr: float = 0.01
    extra: ClassVar = ("weight",)


@pytest.mark.parametrize(
    ("algorithm", "said"),
    [
        (Topr(), "2 of 14 episodes have no behavior_logprobs .*task 'task-.*oreo collect"),
        (Weighted(), r"14 of 14 episodes have no weight .*None\); put a finite number into `info\['weight'\]`"),
    ],
)
def test_episodes_that_lack_a_number_are_refused_before_the_first_step(algorithm, said, recorded, tmp_path):
    without = [replace(e, behavior_logprobs=None) if i in (3, 8) else e for i, e in enumerate(recorded)]
    with pytest.raises(ValueError, match=said):
        run(algorithm, EpisodeBuffer(without), tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.parametrize("value", ["high", None])
def test_what_is_no_number_is_refused(value, make_episode):
    episodes = [make_episode([-1, 0], [1.0], info={"good": good}) for good in (2, value)]
    with pytest.raises(ValueError, match="1 of 2 episodes have no good"):
        collate(episodes, extra=["good"])


def test_extra_follows_rows_and_devices(make_episode):
    episodes = [make_episode([-1, 0], [1.0], info={"w": w}, task_id=t) for w, t in ((1, "a"), (2.5, "b"), (True, "a"))]
    batch = collate(episodes, extra=["w", "task"], tasks={"b": 0, "z": 1})
    assert batch.extra["w"].tolist() == [1, 2.5, 1] and batch.extra["w"].dtype == torch.float32
    assert batch.extra["task"].tolist() == [2, 0, 2]
    assert batch.rows([1, 2]).extra["task"].tolist() == [0, 2]
    assert batch.to("meta").extra["w"].device.type == "meta"
    assert collate(episodes).extra == {}


def test_a_selection_of_nothing_is_a_sentence(recorded, tmp_path):
    @dataclass(frozen=True, kw_only=True)
    class Nothing(Awr):
        def select(self, buffer, rng):
            return []

    with pytest.raises(ValueError, match=r"Nothing\.select chose none of the 14 episodes"):
        run(Nothing(), recorded, tmp_path)


def test_the_example_of_the_documents_trains(recorded, tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "algorithms.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(page.partition("## Write your own")[2].partition("```python\n")[2].partition("```")[0], names)
    _, result = run(names["Topr"](policy_lr=0.01, batch_size=4), recorded, tmp_path)
    assert result.steps == 4 and 0 < result.metrics["train/ratio"] <= 1
