"""Whether a server computes what our own networks do, and if not, in what it differs.

Knows: networks, log-probabilities, the ways in which a server of vLLM is known to differ. Does not know: HTTP.
"""

# N tokens, V vocabulary

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from oreo_agents.engines.line import ServerError
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import TokenValue
from oreo_algos.episode import Episode

# A temperature at which the tokens of any policy tell how they were drawn: a sure one says others now and then.
PROBE_TEMPERATURE = 2.0
_PROMPTS, _PROMPT_TOKENS = 4, 8
_NEW_TOKENS = 8


class OtherWeightsError(ServerError):
    """A server computes something else, and nothing tells of another cause than its weights."""


def probe_prompts(vocabulary: int, special: Sequence[int], context: int) -> list[list[int]]:
    """Return prompts of random ordinary tokens, the same ones each time."""
    ordinary = np.setdiff1d(np.arange(vocabulary), np.asarray(special, dtype=int))
    ordinary = ordinary if len(ordinary) else np.arange(vocabulary)
    length = max(min(_PROMPT_TOKENS, context - probe_length(context)), 1)
    rng = np.random.default_rng(0)
    return [rng.choice(ordinary, length).tolist() for _ in range(_PROMPTS)]


def probe_length(context: int) -> int:
    """Return how many new tokens a probe asks for."""
    return max(min(_NEW_TOKENS, context // 2), 1)


def next_logprobs(policy: CausalPolicy, tokens: Sequence[int], start: int, temperature: float) -> Tensor:
    """Return the log-probabilities of what may stand at each place from ``start`` >= 1 on, float [N, V], nats.

    At temperature 0 they are those at 1, as in ``Sample``.
    """
    with torch.no_grad():  # in the precision of the weights, also on a GPU
        batch = torch.tensor([list(tokens)], device=next(policy.parameters()).device)
        logits = policy.plain(batch, use_cache=False).logits[0, start - 1 : -1].float()
        return (logits / (temperature or 1.0)).log_softmax(dim=-1)


def at(logprobs: Tensor, tokens: Sequence[int]) -> Tensor:
    """Return the log-probabilities of tokens that were said, float [N]."""
    return logprobs.gather(1, torch.tensor(list(tokens), device=logprobs.device)[:, None]).squeeze(1)


def require_samples(
    policy: CausalPolicy,
    samples: Sequence[tuple[Sequence[int], Sequence[int], Sequence[float]]],
    temperature: float,
    tolerance: float,
    where: str,
) -> float:
    """Hold what a server drew against the policy.

    Args:
        policy: whose weights the server should have.
        samples: prompt, new tokens and their log-probabilities.
        temperature: at which they were drawn.
        tolerance: nats.
        where: the server, for the error.

    Returns:
        The largest difference of a log-probability, nats.

    Raises:
        ServerError: they differ; it says in what.
    """
    own, raw, rows, said = [], [], [], []
    for prompt, tokens, numbers in samples:
        logprobs = next_logprobs(policy, [*prompt, *tokens], len(prompt), temperature)
        plain = next_logprobs(policy, [*prompt, *tokens], len(prompt), 1.0) if temperature not in (0, 1) else logprobs
        own.append(at(logprobs, tokens))
        raw.append(at(plain, tokens))
        rows.append(_mass_before(logprobs, own[-1]))
        said.append(torch.tensor(list(numbers), device=logprobs.device))
    ours, theirs = torch.cat(own), torch.cat(said)
    difference = _largest(ours - theirs)
    if difference <= tolerance:
        return difference
    drawn = f"{where}: log-probabilities of its tokens differ by up to {difference:.3g} nats from the policy's"
    if _largest(torch.cat(raw) - theirs) <= tolerance:
        raise ServerError(
            f"{drawn}, because they are those before the temperature; start it with --logprobs-mode processed_logprobs"
        )
    kept = (ours - theirs).exp()
    if bool(((kept <= 1 + tolerance) & (torch.cat(rows) <= kept + tolerance)).all()):
        raise ServerError(
            f"{drawn}, as where tokens are drawn from a part of the vocabulary (top_p, top_k or min_p of a "
            "generation_config.json); start it with --generation-config vllm"
        )
    raise OtherWeightsError(
        f"{drawn}: it has other weights ({policy.path or 'a policy in memory'} was expected), old ones in its cache, "
        "or computes in another precision. Have it serve this checkpoint (sampler.command, or sampler.reload=true), "
        f"with --dtype float32; if its precision is lower on purpose, set sampler.tolerance (now {tolerance:g} nats)"
    )


def _mass_before(logprobs: Tensor, chosen: Tensor) -> Tensor:
    """Return the probability of all tokens that are likelier than the chosen ones, float [N]."""
    return torch.where(logprobs > chosen[:, None], logprobs.exp(), 0.0).sum(dim=-1)


def _largest(difference: Tensor) -> float:
    return float(difference.abs().max()) if difference.numel() else 0.0


def audit_episodes(
    policy: CausalPolicy, episodes: Sequence[Episode], count: int, tolerance: float, where: str
) -> float | None:
    """Score a sample of episodes again, and hold them against what was recorded when they were drawn.

    Args:
        policy: that should have drawn them.
        episodes: drawn without choices, each at the temperature in its ``info``.
        count: how many to score.
        tolerance: nats.
        where: which episodes these are, for the error.

    Returns:
        The largest difference of a log-probability, nats; None: nothing was scored.

    Raises:
        ServerError: they differ.
    """
    scored = [episode for episode in episodes if episode.num_action_tokens]
    if not scored or not count:
        return None
    chosen = np.random.default_rng(len(scored)).permutation(len(scored))[:count]
    worst = 0.0
    for episode in (scored[i] for i in sorted(chosen)):
        own = np.flatnonzero(episode.step_id >= 0)
        start = int(own[0])
        temperature = float(episode.info["temperature"])
        logprobs = next_logprobs(policy, episode.tokens.tolist(), start, temperature)
        ours = at(logprobs, episode.tokens[start:].tolist())[torch.as_tensor(own - start, device=logprobs.device)]
        assert episode.behavior_logprobs is not None
        theirs = torch.as_tensor(episode.behavior_logprobs[own], device=ours.device)
        worst = max(worst, _largest(ours - theirs))
    if worst > tolerance:
        raise ServerError(
            f"{where} is refused: scored again by {policy.path or 'the policy'}, log-probabilities of {len(chosen)} "
            f"episodes differ by up to {worst:.3g} nats (sampler.tolerance={tolerance:g}): the server drew them with "
            "other weights, old ones in its cache, or another temperature. Restart it and collect again"
        )
    return worst


def own_values(value: TokenValue, tokens: Sequence[int]) -> np.ndarray:
    """Return V after each token of a transcript, as our own network reads it, float [N]."""
    with torch.no_grad():
        batch = torch.tensor([list(tokens)], device=next(value.parameters()).device)
        read: Tensor = value.model(input_ids=batch, use_cache=False).logits[0, :, 0]
        return read.double().cpu().numpy()


def require_values(
    value: TokenValue, pairs: Sequence[tuple[Sequence[int], Sequence[float]]], tolerance: float, where: str
) -> float:
    """Hold what a server says of transcripts against the value network.

    Args:
        value: whose weights the server should have.
        pairs: tokens, and V after each.
        tolerance: reward units.
        where: the server, for the error.

    Returns:
        The largest difference, reward units.

    Raises:
        ServerError: they differ; it says in what.
    """
    ours = np.concatenate([own_values(value, tokens) for tokens, _ in pairs])
    theirs = np.concatenate([np.asarray(said, dtype=float) for _, said in pairs])
    difference = float(np.abs(ours - theirs).max())
    if difference <= tolerance:
        return difference
    said = f"{where}: V differs by up to {difference:.3g} from the value network's"
    activated = {"a sigmoid": 1 / (1 + np.exp(-ours)), "a softmax": np.ones_like(ours), "a tanh": np.tanh(ours)}
    for name, numbers in activated.items():
        if float(np.abs(numbers - theirs).max()) <= tolerance:
            raise ServerError(
                f"{said}, because {name} is applied to it; start it with --pooler-config "
                '\'{"task": "token_classify", "use_activation": false}\''
            )
    raise OtherWeightsError(
        f"{said}: it has other weights ({value.path or 'a value network in memory'} was expected) or computes in "
        f"another precision. Have it serve this folder, with --dtype float32; sampler.tolerance is {tolerance:g}"
    )
