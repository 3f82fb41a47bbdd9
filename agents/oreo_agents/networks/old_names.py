"""The names by which transformers 4, and servers built on it, know what transformers 5 writes into a saved folder.

Knows: the JSON files of such a folder. Does not know: weights, networks.

Without them transformers 4 turns positions by its default base, and says nothing: ``findings/rope_base_5_to_4.sh``.
"""

import json
from pathlib import Path
from typing import Any

# What a family calls the base of its rotation and the share of a head that is turned, where it is no common name.
_OWN_NAMES = {
    "gpt_neox": {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"},
    "gpt_neox_japanese": {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"},
}
# Families with a rotation for each type of layer: the bases of full and of sliding attention. Only full attention is
# scaled there, and nothing is where the base has a name of its own.
_BASES = {
    "gemma3_text": ("rope_theta", "rope_local_base_freq"),
    "gemma3n_text": ("rope_theta", "rope_local_base_freq"),
    "modernbert-decoder": ("global_rope_theta", "local_rope_theta"),
    "olmo3": ("rope_theta", None),
}
# Families that call these kinds of scaling `type`, and refuse every setting that is not the scaling's own.
_TYPE_ONLY = {
    "olmo": ("linear", "dynamic"),
    "olmo2": ("linear", "dynamic"),
    "phi3": ("longrope",),
    "phi4_multimodal": ("longrope",),
}

GENERIC_TOKENIZERS = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""The class of tokenizers that are what their tokenizer.json says, as transformers 4 and as 5 calls it."""


def write_old_names(folder: Path) -> None:
    """Write old names beside the new ones in the configuration of a folder, and the tokenizer's class under its old.

    transformers 5 reads the same model and tokenizer as before.
    """
    for file, change in (("config.json", _with_old_names), ("tokenizer_config.json", _tokenizer_of_both)):
        path = folder / file
        if path.exists():
            said = change(json.loads(path.read_text(encoding="utf-8")))
            path.write_text(json.dumps(said, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _with_old_names(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration, and those within it, with what they say under old names too."""
    config = {name: _with_old_names(value) if _is_config(value) else value for name, value in config.items()}
    old = _old_rope(config)
    if isinstance(config.get("dtype"), str):
        old["torch_dtype"] = config["dtype"]
    if "num_local_experts" in config:  # Qwen3 MoE
        old["num_experts"] = config["num_local_experts"]
    return old | config


def _is_config(value: object) -> bool:
    return isinstance(value, dict) and "model_type" in value


def _old_rope(config: dict[str, Any]) -> dict[str, Any]:
    """Return the rotary settings under their old names, {} where they have none."""
    rope, family = config.get("rope_parameters") or {}, config["model_type"]
    if family in _BASES and "full_attention" in rope:
        full, sliding = _BASES[family]
        old = _old_rope(config | {"rope_parameters": rope["full_attention"]})
        if full != "rope_theta":
            old = {full: old["rope_theta"]}
        return old if sliding is None else old | {sliding: rope["sliding_attention"]["rope_theta"]}
    if not isinstance(rope.get("rope_theta"), float | int):
        return {}
    old = {name: rope[name] for name in ("rope_theta", "partial_rotary_factor") if rope.get(name) is not None}
    scaling = {name: value for name, value in rope.items() if name not in old and name != "type"}
    old |= {own: old[name] for name, own in _OWN_NAMES.get(family, {}).items() if name in old}
    kind = scaling.get("rope_type", "default")
    if kind == "default":
        return old
    original = "original_max_position_embeddings"
    if kind == "longrope" and original in scaling:
        old[original] = scaling[original]  # within, it does not count for how much attention is scaled
    if kind in _TYPE_ONLY.get(family, ()):
        del scaling["rope_type"]
        scaling = {"type": kind} | {name: value for name, value in scaling.items() if name not in old}
    return old | {"rope_scaling": scaling}


def _tokenizer_of_both(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a tokenizer with the name of its class, and of more special tokens, that both know."""
    if config.get("tokenizer_class") in GENERIC_TOKENIZERS:
        config = config | {"tokenizer_class": GENERIC_TOKENIZERS[0]}
    if isinstance(config.get("extra_special_tokens"), list):
        config = config | {"additional_special_tokens": config["extra_special_tokens"]}
        del config["extra_special_tokens"]
    return config
