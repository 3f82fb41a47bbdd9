"""Offline reinforcement learning on tokens: episodes, losses, algorithms, one trainer. Never imports an environment."""

from oreo_algos.batch import Batch, collate
from oreo_algos.episode import Episode
from oreo_algos.models import Models, Policy, TokenScores, Value
from oreo_algos.storage.buffer import EpisodeBuffer
from oreo_algos.training.trainer import TrainerConfig, TrainResult, train

__all__ = [
    "Batch",
    "Episode",
    "EpisodeBuffer",
    "Models",
    "Policy",
    "TokenScores",
    "TrainResult",
    "TrainerConfig",
    "Value",
    "collate",
    "train",
]
