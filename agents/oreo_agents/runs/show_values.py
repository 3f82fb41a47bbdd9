"""V along the episodes that ``oreo show`` prints.

Knows: value networks, the settings that a run's prompts were written with. Does not know: what is shown.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.texts import encode_episode
from oreo_agents.evaluation.answer_view import Steps
from oreo_agents.evaluation.run_settings import read_config
from oreo_agents.networks.value import TokenValue
from oreo_agents.progress import quiet
from oreo_agents.value_quality.path import read_paths
from oreo_algos.episode import Episode
from oreo_envs.grading import Thoughts

_BATCH = 8


def read_values(
    folder: str, episodes: Sequence[Episode], fingerprints: Sequence[str], config: Path
) -> dict[Episode, Steps]:
    """Read V before and after each step.

    Args:
        folder: of the value network, or its name on the hub.
        episodes: any.
        fingerprints: of the tokenizers that encoded them; what another one encoded is encoded again.
        config: ``config.yaml`` of the run that they are of; it may not be there.

    Raises:
        ValueError: no value network can be read there, or an episode cannot be encoded for it.
    """
    quiet()
    prompt_format = PromptFormat.from_pretrained(folder, **_prompt_settings(config))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    value = TokenValue.from_pretrained(folder, device=device)
    encoded = [
        episode
        if episode.encoded and fingerprint == prompt_format.fingerprint
        else encode_episode(episode, prompt_format)
        for episode, fingerprint in zip(episodes, fingerprints, strict=True)
    ]
    paths = read_paths(value, encoded, _BATCH)
    every = np.abs(np.concatenate([path.advantages for path in paths]))
    scale = float(np.quantile(every, 0.95)) or 1.0
    return {episode: Steps(path.values, path.advantages, scale) for episode, path in zip(episodes, paths, strict=True)}


def _prompt_settings(config: Path) -> dict[str, Any]:
    if not config.exists():
        return {}
    policy = read_config(config).get("policy") or {}
    names = ("chat_template", "chat_template_kwargs", "system_prompt")
    found = {name: policy[name] for name in names if policy.get(name) is not None}
    thoughts = policy.get("thoughts")
    return found | ({} if thoughts is None else {"thoughts": Thoughts.of(thoughts)})
