#!/usr/bin/env bash
# What: in transformers 5.23 the models with Mamba's first layer (Mamba, FalconMamba, Jamba) forget their cache when the next forward has
#   more than one token: a candidate answer after a cached prompt is scored as if the prompt were not there (in Jamba: as if its
#   attention layers alone had seen it). Nothing warns.
# Versions: transformers 5.23.0, torch 2.13.0.
# Expected by most: a cache gives the logits of the whole text, in one piece or in several. It does so in Mamba2 and in Qwen3-Next, and in all
#   of them one token at a time, so that `generate` from a plain prompt is right and hides it.
# Observed, greatest difference of the logits of the last 10 of 24 tokens from those of one pass:
#   transformers 5.23.0 torch 2.13.0
#   mamba: in one piece 1.608, token by token 0.000
#   falcon_mamba: in one piece 1.204, token by token 0.000
#   jamba: in one piece 1.341, token by token 0.000
#   mamba2: in one piece 0.000, token by token 0.000
#   qwen3_next: in one piece 0.000, token by token 0.000
# Why: with several tokens the first layer takes the way of a new prompt: its convolution is padded with zeros, its state begins at 0.
# Instead: with these models feed the rest one token at a time, or the whole text again; test any cache once against one pass.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check torch==2.13.0 numpy==2.4.6 transformers==5.23.0
cat > show.py <<'PY'
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

transformers.logging.set_verbosity_error()
SIZES = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "initializer_range": 0.2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16}
MODELS = {
    "mamba": {"state_size": 8, "time_step_rank": 4},
    "falcon_mamba": {"state_size": 8, "time_step_rank": 4},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 1, "num_experts_per_tok": 1, "mamba_dt_rank": 4,
              "use_mamba_kernels": False},
    "mamba2": {"num_heads": 8, "head_dim": 16, "state_size": 8, "n_groups": 1, "chunk_size": 8},
    "qwen3_next": {"layer_types": ["linear_attention", "full_attention"], "head_dim": 16, "num_experts": 0, **LINEAR},
}  # fmt: skip


@torch.no_grad()
def differences(name):
    """How far the logits of the last ten tokens are from those of one pass: given in one piece, and one by one."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **SIZES | MODELS[name])).eval()
    ids = torch.randint(3, 64, (1, 24))
    expected = model(ids, use_cache=False).logits[:, 14:]

    def from_cache(pieces):
        out = model(ids[:, :14], use_cache=True)
        key = "past_key_values" if out.get("past_key_values") is not None else "cache_params"
        logits = []
        for piece in pieces:
            out = model(piece, **{key: out[key]}, use_cache=True)
            logits.append(out.logits)
        return (torch.cat(logits, 1) - expected).abs().max().item()

    return from_cache([ids[:, 14:]]), from_cache(ids[:, 14:].split(1, 1))


if __name__ == "__main__":
    print("transformers", transformers.__version__, "torch", torch.__version__[:6])
    for name in MODELS:
        piece, steps = differences(name)
        print(f"{name}: in one piece {piece:.3f}, token by token {steps:.3f}")
        assert steps < 1e-3
        assert piece < 1e-3 if name in ("mamba2", "qwen3_next") else piece > 0.5
PY
venv/bin/python -W ignore show.py 2>errors || { cat errors; exit 1; }
