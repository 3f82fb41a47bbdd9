#!/usr/bin/env bash
# What: model.save_pretrained(folder, state_dict=weights) empties the dict `weights`; saving it a second time writes a
#   folder without weights and raises nothing.
# Versions: transformers 5.23.0 (5.24.0 the same) and 4.57.6, torch 2.13.0; tiny random Qwen2 and Qwen3-MoE.
# Expected by most: saving leaves its argument as it is, as in 4.57.6; say averaged weights, saved as `last` and as
#   `best`.
# Observed:
#   transformers 5.23.0
#   Qwen2/last: 27 tensors given, 0 left; config.json generation_config.json model.safetensors
#   Qwen2/best: 0 tensors given, 0 left; config.json generation_config.json
#   Qwen3-MoE/last: 25 tensors given, 25 left; config.json generation_config.json model.safetensors
#   transformers 4.57.6
#   Qwen2/last: 27 tensors given, 27 left; config.json generation_config.json model.safetensors
#   Qwen2/best: 27 tensors given, 27 left; config.json generation_config.json model.safetensors
# Why: transformers/modeling_utils.py, save_pretrained: `tensor = state_dict.pop(tensor_name)` spares memory, on the
#   dict that was given. Models whose weights are converted on saving (mixtures of experts; revert_weight_conversion in
#   core_model_loading.py) pop from a new dict, and the argument survives.
# Instead: pass a copy, state_dict=dict(weights); it costs no memory, as the tensors are shared.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > save.py <<'PY'
import os
import sys

import transformers
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

transformers.utils.logging.disable_progress_bar()
size = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
experts = {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2, "head_dim": 8}
models = {
    "Qwen2": Qwen2ForCausalLM(Qwen2Config(**size, num_key_value_heads=2)),
    "Qwen3-MoE": Qwen3MoeForCausalLM(Qwen3MoeConfig(**size, **experts, num_key_value_heads=2)),
}
print("transformers", transformers.__version__)
for name, model in models.items():
    weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    for folder in (f"{name}/last", f"{name}/best"):
        given = len(weights)
        model.save_pretrained(folder, state_dict=weights)
        print(f"{folder}: {given} tensors given, {len(weights)} left;", *sorted(os.listdir(folder)))
        emptied = sys.argv[1] == "empties" and name == "Qwen2"
        assert len(weights) == (0 if emptied else given)
        assert ("model.safetensors" in os.listdir(folder)) == (not emptied or folder.endswith("last"))
PY
for version in 5.23.0 4.57.6; do
  python3 -m venv "$version"
  "$version/bin/pip" install -qq --disable-pip-version-check torch==2.13.0 numpy==2.4.6 "transformers==$version"
  mkdir "out-$version"
  (cd "out-$version" && "../$version/bin/python" ../save.py "$([ "$version" = 5.23.0 ] && echo empties || echo keeps)")
done
