"""What several algorithms log: about values, advantages, log-ratios, likelihoods and temperature.

Knows: names of metrics. Does not know: networks, how a loss is minimised.
"""

# B episodes, T tokens, K steps.

import torch
from torch import Tensor

from oreo_algos.algos.base import subset_mean
from oreo_algos.batch import Batch
from oreo_algos.losses import effective_temperature
from oreo_algos.metrics import Deviation, ExplainedVariance, Maximum, Mean, Median, Minimum
from oreo_algos.models import TokenScores
from oreo_algos.segments import final_values, first_token, last_token, reward_to_go


def value_metrics(token_values: Tensor, values: Tensor, steps: Batch) -> dict[str, float]:
    """Describe V: over the states that steps begin in and the final ones, at the start, and at the end by outcome.

    The final state is that just before the end token. At response level there is but one other, the same for all
    answers to a task: V may tell answers well and be equal there.
    """
    final = final_values(token_values, steps)
    counted = first_token(steps).amax(dim=1) == last_token(steps).amax(dim=1)  # the last step is one token
    seen = torch.cat([values[steps.step_mask], final[~counted]])
    solved = steps.success
    metrics = {
        "values/mean": Mean(seen.mean().item(), len(seen)),
        "values/std": _deviation(seen),
        "values/min": Minimum(seen.min().item()),
        "values/max": Maximum(seen.max().item()),
        "values/start": values[:, 0].mean().item(),
    }
    if solved.any():
        metrics["values/terminal_pos"] = subset_mean(final, solved)
    if not solved.all():
        metrics["values/terminal_neg"] = subset_mean(final, ~solved)
    return metrics


def bellman_metrics(values: Tensor, log_ratio: Tensor, returns: Tensor, steps: Batch, beta: float) -> dict[str, float]:
    """Describe how well V explains its target, the reward-to-go less the KL-to-go."""
    kl_to_go = beta * reward_to_go(log_ratio, steps.step_mask)
    target = (returns - kl_to_go)[steps.step_mask]
    residual = values[steps.step_mask] - target
    return {
        "bellman/residual_abs": Mean(residual.abs().mean().item(), len(residual)),
        "bellman/explained_variance": ExplainedVariance(_deviation(target), _deviation(residual)),
    }


def _deviation(x: Tensor) -> Deviation:
    """Describe the numbers of a tensor."""
    exact = x.double()
    return Deviation(exact.std(correction=0).item(), len(x), exact.mean().item())


def ratio_metrics(log_ratio: Tensor, batch: Batch) -> dict[str, float]:
    """Median log-ratio of whole transcripts by outcome, nats."""
    solved = batch.success
    return {
        f"log_ratio/{name}_median": Median(log_ratio[rows].tolist())
        for name, rows in (("pos", solved), ("neg", ~solved))
        if rows.any()
    }


def temperature_metrics(
    beta: float, alpha: float, batch: Batch, steps: Batch, *, all_gradients: bool = False
) -> dict[str, float]:
    """Say which temperature beta and the regulariser come to, see ``effective_temperature``.

    Args:
        beta: of the residual.
        alpha: of the regulariser, a mean over tokens.
        batch: whose action tokens count.
        steps: the same, regrouped as the loss takes it.
        all_gradients: whether the gradient of a residual reaches the log-ratios of all later steps.
    """
    counts = steps.step_mask.sum(dim=1), batch.action_mask.sum(dim=1)
    return {"temperature/effective": effective_temperature(beta, alpha, *counts, all_gradients=all_gradients).item()}


def advantage_metrics(advantages: Tensor, step_mask: Tensor) -> dict[str, float]:
    """Describe the advantages of the steps, float [B, K], that a policy learns from."""
    found = advantages.detach()[step_mask].double()
    return {
        "advantages/mean": Mean(found.mean().item(), len(found)),
        "advantages/std": _deviation(found),
        "advantages/positive": Mean((found > 0).double().mean().item(), len(found)),
    }


def logprob_metrics(scores: TokenScores, batch: Batch) -> dict[str, float]:
    """Mean log-probability of whole transcripts by outcome, nats."""
    logprobs, solved = scores.logprobs.sum(dim=1), batch.success
    return {
        f"logps/{name}": subset_mean(logprobs, rows)
        for name, rows in (("chosen", solved), ("rejected", ~solved))
        if rows.any()
    }
