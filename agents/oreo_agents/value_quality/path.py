"""V along episodes: at the start, after each step, and just before the end token.

Knows: where V is read, and which log-ratio and reward lie between two readings. Does not know: what the numbers are
worth (``oreo_algos.value_quality``), how episodes came about.
"""

# B episodes, K steps of one episode, which give K + 1 states.

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from oreo_agents.networks.checkpoints import autocast
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import TokenValue
from oreo_algos.algos.base import token_log_ratio
from oreo_algos.batch import collate
from oreo_algos.episode import Episode
from oreo_algos.segments import final_values, last_token, step_values, sum_by_step

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ValuePath:
    """V of the K + 1 states of one episode.

    State 0 is just before the first action token; state k, after step k, is just before the first token of the next
    step, behind whatever the environment said in between; state K is just before the last action token, the end token
    unless a limit cut the episode off.

    Attributes:
        values: V of each state, reward units, float [K + 1].
        rewards: reward between a state and the next, float [K + 1]; the last one, after the end token, is that of
            the last step, so that the one before it is 0.
        log_ratios: log pi - log pi_ref between a state and the next, nats, float [K + 1]; the last one is the end
            token's. All 0 without a reference.
    """

    values: Floats
    rewards: Floats
    log_ratios: Floats

    @property
    def advantages(self) -> Floats:
        """Explicit advantage of each step, ``r_k + V(s_{k+1}) - V(s_k)``, reward units, float [K]."""
        return self.rewards[:-1] + np.diff(self.values)

    def at(self, place: float) -> int:
        """Return the state that lies nearest to a share of the steps: 0 the start, 1 the end."""
        return int(place * (len(self.values) - 1) + 0.5)


@torch.no_grad()
def read_paths(
    value: TokenValue,
    episodes: Sequence[Episode],
    batch_size: int,
    *,
    policy: CausalPolicy | None = None,
    reference: CausalPolicy | None = None,
) -> list[ValuePath]:
    """Read V, and the log-ratio of policy and reference if both are given, along encoded episodes.

    Args:
        value: on the device to compute on, as the policies.
        episodes: one path each, in their order.
        batch_size: episodes a forward pass; those of one length go together.
        policy: what the log-ratios are of.
        reference: and what they are relative to.
    """
    device = next(value.parameters()).device
    order = sorted(range(len(episodes)), key=lambda i: episodes[i].num_tokens)
    paths: dict[int, ValuePath] = {}
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = collate([episodes[i] for i in rows]).to(device)
        with autocast(device):
            token_values = value.token_values(batch)
            token_ratios = torch.zeros(batch.tokens.shape, device=device)
            if policy is not None and reference is not None:
                token_ratios = token_log_ratio(policy.score(batch, reference))
        end = last_token(batch).amax(dim=1, keepdim=True)
        columns = (
            step_values(token_values, batch),
            final_values(token_values, batch),
            sum_by_step(token_ratios, batch),
            token_ratios.gather(1, end).squeeze(1),
        )
        begun, final, ratios, end_ratio = (column.double().cpu().numpy() for column in columns)
        for row, i in enumerate(rows):
            steps, rewards = episodes[i].num_steps, episodes[i].rewards.astype(np.float64)
            between = np.append(ratios[row, :steps], end_ratio[row])
            between[-2] -= end_ratio[row]
            paths[i] = ValuePath(np.append(begun[row, :steps], final[row]), np.insert(rewards, steps - 1, 0.0), between)
    return [paths[i] for i in range(len(episodes))]
