"""One run of training on tiny networks."""

from tabular import tiny_models

from oreo_algos import TrainerConfig, train
from oreo_algos.training.metrics_writer import read_metrics


def run(algorithm, buffer, folder, models=None, evaluate=None, **config):
    """Train fresh networks unless some are given; return the networks, their metrics and the result."""
    models = models or tiny_models()
    result = train(algorithm, models, buffer, TrainerConfig(**config), folder, evaluate=evaluate)
    return models, read_metrics(folder), result
