"""The README of a saved network.

Knows: what trained it. Does not know: the network.
"""

import dataclasses
from typing import Any, Literal

from oreo_algos.algos import Algorithm

_ROLES = {
    "policy": "Policy, a causal language model.",
    "value": "Value network, a token classifier with one label: its output at a token is V of the state just after it.",
}


def model_card(part: Literal["policy", "value"], algorithm: Algorithm[Any], env_id: str, seed: int) -> str:
    """Return a Hugging Face model card: what the network is, and the settings that trained it."""
    name = type(algorithm).__name__
    fields = "\n".join(f"- {key}: {value}" for key, value in dataclasses.asdict(algorithm).items())
    return (
        f"---\nlibrary_name: transformers\ntags: [oreo-suite]\n---\n# {name}: {part}\n\n{_ROLES[part]}\n"
        f"Trained with oreo-suite on {env_id}, seed {seed}, by {name}:\n\n{fields}\n"
    )
