"""How likely a policy finds what was said, at temperature 1, whatever it was drawn at and whoever drew it.

Knows: networks, tokens. Does not know: searches.
"""

from collections.abc import Sequence

import numpy as np
import torch

from oreo_agents.episodes.generate import Sample
from oreo_agents.networks.checkpoints import autocast
from oreo_agents.networks.policy import CausalPolicy
from oreo_algos.batch import collate
from oreo_algos.episode import Episode
from oreo_algos.training.micro_batches import cut_by_tokens

_TOKENS = 16384
"""Read in one forward pass, padding not counted."""


@torch.no_grad()
def log_policy_of(policy: CausalPolicy, episodes: Sequence[Episode], *, freely: bool = True) -> list[float]:
    """Return log pi of each episode, summed over the tokens of its actions, nats.

    What was drawn ``freely``, from all tokens, at temperature 1 says so itself; the policy reads all others once more.
    """
    found: dict[int, float] = {}
    for episode in episodes:
        if freely and episode.info.get("temperature") == 1 and episode.behavior_logprobs is not None:
            found[id(episode)] = float(episode.behavior_logprobs.sum(dtype=np.float64))
    unknown = [episode for episode in episodes if id(episode) not in found]
    device = next(policy.parameters()).device
    for piece in cut_by_tokens(unknown, _TOKENS) if unknown else ():
        with autocast(device):
            read = policy.score(collate(piece).to(device)).logprobs.sum(dim=1)
        found |= zip(map(id, piece), read.double().cpu().tolist(), strict=True)
    return [found[id(episode)] for episode in episodes]


def log_policy_of_samples(
    policy: CausalPolicy, prompts: Sequence[Sequence[int]], samples: Sequence[Sample]
) -> list[float]:
    """Return log pi of each continuation, summed over its tokens, nats.

    A sampler that does not tell (see ``Sample.log_policy``) has the policy of this process read them, prompts included.
    """
    silent = [i for i, sample in enumerate(samples) if sample.log_policy is None]
    read = log_policy_of(policy, [_as_episode(prompts[i], samples[i].tokens) for i in silent])
    said = dict(zip(silent, read, strict=True))
    return [said.get(i, sum(sample.log_policy or ())) for i, sample in enumerate(samples)]


def _as_episode(prompt: Sequence[int], tokens: Sequence[int]) -> Episode:
    return Episode(
        tokens=np.array([*prompt, *tokens], dtype=np.int32),
        step_id=np.array([-1] * len(prompt) + [0] * len(tokens), dtype=np.int32),
        rewards=np.zeros(1, dtype=np.float32),
        terminated=True,
        truncated=False,
        task_id="",
        env_id="",
    )
