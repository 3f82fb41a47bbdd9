#!/usr/bin/env bash
# What: with indexed attention (DeepSeek-V3.2) the logits at a token depend on how many tokens come after it.
# Versions: transformers 5.23.0, torch 2.13.0; a tiny random DeepseekV32.
# Expected by most: a causal language model says the same of the first tokens of a row, whatever follows, up to rounding.
# Observed:
#   transformers 5.23.0 - 4 of 11 keys are read
#   logits at token 13 change by 0.0000 at most with what follows
#   logits at the padding token change by 4.2917
# Why: modeling_deepseek_v32.py, DeepseekV32Indexer: the keys of the index_topk best scores are read, and torch.topk
#   leaves open which of equal ones. The embedding of the padding token is 0, so that all scores of its query are equal,
#   and topk picks others of them when the row is longer. The same in axk2, glm_moe_dsa and hy_v4.
# Instead: take the first of equal scores (a stable sort where scores tie), or ratios of a policy that drew such a token
#   and of the same policy that reads it back are wrong. An end of turn is often the padding token.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check torch==2.13.0 numpy==2.4.6 transformers==5.23.0
venv/bin/python - <<'PY'
import torch
import transformers
from transformers import DeepseekV32Config, DeepseekV32ForCausalLM

PADDING, TOPK = 0, 4
config = DeepseekV32Config(
    vocab_size=64, hidden_size=32, intermediate_size=32, moe_intermediate_size=16, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=4, n_routed_experts=4, num_experts_per_tok=2, n_group=1, topk_group=1,
    q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=4, qk_nope_head_dim=8, v_head_dim=8, index_topk=TOPK,
    index_head_dim=8, index_n_heads=16, initializer_range=0.2, pad_token_id=PADDING, bos_token_id=1, eos_token_id=2,
)
torch.manual_seed(0)
model = DeepseekV32ForCausalLM(config).eval()


@torch.no_grad()
def most(token):
    """The largest difference of any logit at a token after 10 others, with and without tokens after it."""
    row = torch.tensor([[*range(3, 13), token, *range(20, 40)]])
    whole = model(row, use_cache=False).logits[0, 10]
    return max((model(row[:, :end], use_cache=False).logits[0, 10] - whole).abs().max().item() for end in range(11, 31))


print("transformers", transformers.__version__, f"- {TOPK} of 11 keys are read")
plain, padding = most(13), most(PADDING)
print(f"logits at token 13 change by {plain:.4f} at most with what follows")
print(f"logits at the padding token change by {padding:.4f}")
assert plain < 1e-3 and padding > 0.1
PY
