"""A loss or gradient that is no number is told from where it came."""

import dataclasses
import math

import pytest
import torch
from tabular import TinyValue, tiny_models

from oreo_algos import EpisodeBuffer
from oreo_algos.algos import EpisodeAlgorithm, Losses, Oreo
from oreo_algos.training.settings import TrainerConfig
from oreo_algos.training.trainer import train


@dataclasses.dataclass(frozen=True, kw_only=True)
class Own(EpisodeAlgorithm):
    """A loss of one's own, which goes wrong in one of its ways."""

    policy_lr: float = 1e-3
    way: str = ""

    extra = ("advantage",)

    def select(self, buffer, rng):
        return [dataclasses.replace(e, info={"advantage": 1e300 if self.way == "data" else 1.0}) for e in buffer]

    def losses(self, batch, models, context=None):
        loss = (models.policy.score(batch).logprobs.sum(dim=1) * batch.extra["advantage"]).mean()
        match self.way:
            case "equation":
                loss = loss * 0 / torch.zeros(())
            case "gradient":
                loss = loss + (loss - loss.detach()).abs().sqrt()
        return Losses({"policy": loss}, {})


class Overflowing(TinyValue):
    """Says no numbers, though its weights are numbers."""

    def token_values(self, batch):
        return super().token_values(batch) * math.inf


def fails(algorithm, episodes, folder, models=None):
    config = TrainerConfig(tracker="none")
    with pytest.raises(ValueError) as caught:
        train(algorithm, models or tiny_models(), EpisodeBuffer(episodes), config, folder)
    return str(caught.value)


@pytest.fixture
def episodes(random_episodes):
    return random_episodes(6, seed=1)


@pytest.mark.parametrize(
    ("way", "said"),
    [
        (
            "equation",
            "what the networks say of them are finite, and the term 'policy' of Own is not: its equation divides",
        ),
        ("gradient", "gradient norm of the policy is nan at step 1; the loss is finite, and its gradient in context."),
        ("data", "at step 1; batch.extra['advantage'], from the data, or `select`, is not finite"),
    ],
)
def test_of_a_loss_of_ones_own(way, said, episodes, tmp_path):
    assert said in fails(Own(way=way), episodes, tmp_path)


def test_of_weights_and_of_what_networks_say(episodes, tmp_path):
    models = tiny_models()
    with torch.no_grad():
        models.value.context.embedding.weight[3] = math.nan
    said = fails(Oreo(), episodes, tmp_path / "a", models)
    assert "weights of the value are not finite (context.embedding.weight): lower the learning rates" in said
    models = tiny_models()
    models.value = Overflowing().double()
    said = fails(Oreo(), episodes, tmp_path / "b", models)
    assert "the value network says values that are not finite, and its weights are" in said
    models = tiny_models()
    with torch.no_grad():
        models.reference.head.bias[0] = math.inf
    assert "weights of the reference are not finite (head.bias)" in fails(Oreo(), episodes, tmp_path / "c", models)


@pytest.mark.parametrize("name", ["rewards", "behavior_logprobs"])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_of_an_episode_where_it_is_made(make_episode, name, number):
    numbers = {"rewards": [0.0, number], "behavior_logprobs": [0.0, -1.0, number]}
    with pytest.raises(ValueError, match=rf"{name}\[{len(numbers[name]) - 1}\] is {number}, which is no finite number"):
        make_episode([-1, 0, 1], **({"rewards": [0.0, 1.0]} | {name: numbers[name]}))
