"""Small models, of random weights, of every causal family that the installed transformers has.

Knows: which settings of a configuration are sizes, and which small ones fit together. Does not know: what a family can
do.
"""

from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCABULARY = 320
WINDOW = 8

_SIZES: dict[int, str] = {
    1: "first_k_dense_replace num_dense_layers",
    VOCABULARY: "vocab_size vocab_size_per_layer_input decoder_vocab_size",
    32: "hidden_size d_model n_embd dim embedding_size emb_dim word_embed_proj_dim attention_hidden_size lru_width "
    "embedding_dim input_embedding_size output_embedding_size mamba_d_ssm n_ctx router_hidden_size",
    2: "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers num_blocks num_decoder_layers "
    "num_encoder_layers num_key_value_heads num_kv_heads num_experts_per_tok num_experts_per_token moe_topk moe_k "
    "swa_num_key_value_heads linear_num_key_heads linear_num_value_heads linear_num_heads n_mamba_heads "
    "index_topk_blocks hc_lowrank num_query_groups heads_per_ngram split_ngram_parts "
    "num_layers_per_stack",
    4: "num_attention_heads n_head n_heads num_heads decoder_attention_heads encoder_attention_heads "
    "num_decoder_attention_heads num_encoder_attention_heads attention_heads swa_num_attention_heads num_experts "
    "num_local_experts n_routed_experts moe_num_experts rotary_dim laurel_rank hidden_size_per_layer_input "
    "mamba_n_heads mamba_num_heads mamba_d_state state_size ssm_state_size qk_rope_head_dim adapter_rank "
    "gated_norm_rank time_step_rank mamba_dt_rank chunk_size mamba_chunk_size zero_expert_num index_topk "
    "index_block_size o_lora_rank d_rel dim_model_base",
    8: "head_dim attention_head_dim kv_channels global_head_dim swa_head_dim qk_nope_head_dim v_head_dim d_head "
    "linear_key_head_dim linear_value_head_dim linear_head_dim dim_head index_head_dim kv_lora_rank "
    "attention_head_size sliding_window sliding_window_size window_size local_attention attention_window_size "
    "attention_chunk_size rel_extent query_pre_attn_scalar ple_embed_dim",
    12: "qk_head_dim",
    16: "index_n_heads moe_intermediate_size shared_expert_intermediate_size shared_experts_intermediate_size "
    "moe_shared_expert_intermediate_size expert_ffn_hidden_size mamba_d_head mamba_head_dim mamba_headdim q_lora_rank "
    "intermediate_size_mlp block_size",
    48: "intermediate_size ffn_dim n_inner decoder_ffn_dim encoder_ffn_dim dim_ff dff d_inner feed_forward_size "
    "ffn_hidden_size shared_intermediate_size dense_intermediate_size",
    128: "max_position_embeddings n_positions max_seq_len context_length max_target_positions",
}
_SMALL = {name: size for size, names in _SIZES.items() for name in names.split()}
_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}

# What the rules do not reach: settings that hang together in a way of the family's own.
_OWN: dict[str, dict[str, Any]] = {
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 10_000.0} for kind in ("sliding_attention", "full_attention")
        },
    },
    "bamba": {"attn_layer_indices": [1]},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "laguna": {"layer_types": ["sliding_attention", "full_attention"]},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "mellum": {"layer_types": ["sliding_attention", "full_attention"]},
    "recurrent_gemma": {"num_hidden_layers": 3},
    "beam": {"n_group": 2, "topk_group": 1},
    "axk1": {"n_group": 2, "topk_group": 1},
    "deepseek_v3": {"n_group": 2, "topk_group": 1},
    "deepseek_v32": {"n_group": 2, "topk_group": 1},
    "bailing_hybrid": {"num_expert_group": 2, "topk_group": 1},
    "deepseek_v2": {"n_group": 2, "topk_group": 1, "num_experts_per_tok": 2},
    "deepseek_v4": {"compress_rates": {"compressed_sparse_attention": 2, "heavily_compressed_attention": 4}},
    "dots1": {"n_shared_experts": 1, "n_routed_experts": 4, "num_experts_per_tok": 2},
    "dots3_note_text": {"num_key_value_heads": 4, "head_dim": 12, "per_layer_config": {}},
    "gemma3n_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2,
        "intermediate_size": [48] * 4,
        "activation_sparsity_pattern": [0.5, 0.0, 0.0, 0.0],
    },
    "gemma4_text": {"per_layer_config": {"01": {"head_dim": 16}}},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "mamba2": {"head_dim": 16, "n_groups": 2},
    "ministral": {"head_dim": 8},
    "nemotron": {"num_key_value_heads": 2},
    "nemotron_h": {"n_groups": 2},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 4,
        "indexer_compress_ratio": 2,
    },
    "reformer": {"is_decoder": True, "axial_pos_shape": [8, 16], "axial_pos_embds_dim": [8, 24], "hash_seed": 1},
    "zamba": {
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
        "num_hidden_layers": 4,
        "attention_head_dim": 16,
        "attention_hidden_size": 64,
    },
    "zamba2": {
        "layers_block_type": ["linear_attention", "hybrid"],
        "attention_head_dim": 16,
        "attention_hidden_size": 64,
        "num_key_value_heads": 4,
        "n_mamba_heads": 4,
        "hybrid_layer_ids": [1],
    },
}

# They read images, sound or bytes of another length than their tokens, transformers cannot make them (DBRX) or trains
# them in training mode only, where outputs are random (Reformer).
_NOT_TEXT = {"blt", "dbrx", "git", "phi4_multimodal", "reformer"}


def names() -> list[str]:
    """Every causal family by its ``model_type``; of one with images or sound its text model if that stands alone."""
    return sorted(name for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if name not in _NOT_TEXT and _is_text(name))


def _is_text(family: str) -> bool:
    try:
        default = CONFIG_MAPPING[family]()
        return default.get_text_config(decoder=True) is default
    except (ValueError, StrictDataclassClassValidationError):  # several text models, or none by default
        return False


def small_config(family: str, **options: Any) -> PretrainedConfig:
    """Make a configuration of a family with sizes of a test, and other settings where they are given."""
    default = CONFIG_MAPPING[family]()
    given: dict[str, Any] = {}
    for name, value in default.to_dict().items():
        if name in _SMALL and isinstance(value, int | float) and not isinstance(value, bool) and value > 1:
            given[name] = min(_SMALL[name], value)
        elif name in ("initializer_range", "init_std"):
            given[name] = 0.2  # as told apart as trained ones: with the usual .02 small models say nothing
    if given.get("kv_lora_rank"):  # latent attention has as many keys as queries
        given |= {"num_key_value_heads": 4, "head_dim": 4 if hasattr(default, "qk_head_dim") else 8}
    kinds = getattr(default, "layer_types", None) or getattr(default, "layers_block_type", None)
    if kinds and default.to_dict().get("layer_types"):
        given["layer_types"] = _each_kind(kinds)
    if default.to_dict().get("mlp_layer_types"):
        given["mlp_layer_types"] = _each_kind(default.mlp_layer_types)
    given |= _IDS | _OWN.get(family, {}) | options
    if "layer_types" in given and "num_hidden_layers" in given:
        given["num_hidden_layers"] = len(given["layer_types"])
    return CONFIG_MAPPING[family](**given)


def _each_kind(kinds: list[str]) -> list[str]:
    """Two layers or more, one of each kind, in the order of their first."""
    each = list(dict.fromkeys(kinds))
    return each if len(each) > 1 else each * 2


def build(family: str, **options: Any) -> PreTrainedModel:
    """Make a model of a family."""
    config = small_config(family, **options)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model.eval()
