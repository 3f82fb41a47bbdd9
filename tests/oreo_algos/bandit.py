"""One question, a few answers of one token each: a policy is a row of logits, and every optimum has a closed form."""

import copy
import math

import numpy as np
import torch
from tabular import TablePolicy, TableValue

from oreo_algos import Episode, EpisodeBuffer, Models
from oreo_algos.batch import collate
from oreo_algos.training.micro_batches import episodes_of

QUESTION, ANSWERS = 0, (1, 2, 3, 4)
FORBIDDEN = -40.0
# How often each answer was sampled, and what it pays.
COUNTS, REWARDS = (4, 3, 2, 1), (0.0, 1.0, 0.0, 1.0)
SHARES = np.array(COUNTS) / sum(COUNTS)


def bandit_buffer(rewards=REWARDS, counts=COUNTS, **fields) -> EpisodeBuffer:
    """Each answer as often as it was sampled."""
    return EpisodeBuffer(
        bandit_episode(answer, reward, **fields)
        for answer, reward, count in zip(ANSWERS, rewards, counts, strict=True)
        for _ in range(count)
    )


def bandit_episode(answer: int, reward: float, task_id: str = "question", **fields) -> Episode:
    return Episode(
        tokens=[QUESTION, answer],
        step_id=[-1, 0],
        rewards=[reward],
        success=reward > 0,
        terminated=True,
        truncated=False,
        task_id=task_id,
        env_id="oreo/Bandit-v0",
        **fields,
    )


def bandit_models(policy=SHARES, reference=SHARES) -> Models:
    """Tables, float64."""

    def table(probabilities) -> TablePolicy:
        logits = torch.full((len(ANSWERS) + 1, len(ANSWERS) + 1), FORBIDDEN, dtype=torch.float64)
        for answer, probability in zip(ANSWERS, probabilities, strict=True):
            logits[QUESTION, answer] = math.log(probability)
        return TablePolicy(logits)

    network, fixed = table(policy), copy.deepcopy(table(reference))
    for parameter in fixed.parameters():
        parameter.requires_grad_(False)
    return Models(network, fixed, TableValue(len(ANSWERS) + 1).double())


def answered(models: Models) -> np.ndarray:
    """Probability of each answer."""
    return models.policy.table.detach()[QUESTION].softmax(dim=0)[list(ANSWERS)].numpy()


def logit_gradient(models: Models) -> np.ndarray:
    """Gradient with respect to the logit of each answer."""
    return models.policy.table.grad[QUESTION, list(ANSWERS)].numpy()


def descend(algorithm, models: Models, buffer: EpisodeBuffer, *, steps: int = 150, optimizer=None) -> Models:
    """Take steps on the whole data, by default with Adam; the trainer itself is tested elsewhere."""
    examples = algorithm.select(buffer, np.random.default_rng(0))
    batch = collate(episodes_of(examples), extra=algorithm.extra)
    parameters = [*models.policy.parameters(), *models.value.parameters()]
    optimizer = optimizer or torch.optim.Adam(parameters, lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.stack(list(algorithm.losses(batch, models).terms.values())).sum().backward()
        optimizer.step()
    return models
