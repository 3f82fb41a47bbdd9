#!/usr/bin/env bash
# What: transformers 4 reads a folder saved by transformers 5 with the rotary base 10,000 in place of the model's own,
#   without an error or a warning: same weights, other log-probabilities.
# Versions: transformers 5.23.0 (5.24.0 saves the same) and 4.57.6, torch 2.13.0; a tiny random Qwen2.
# Expected by most: the base of config.json, or an error: the field is there and has the name that 5 gave it.
# Observed:
#   save: transformers 5.23.0, base in use 1000000, log-probability -249.996
#   config.json: "rope_parameters":{"rope_theta":1000000.0,"rope_type":"default"}
#   read: transformers 4.57.6, base in use 10000, log-probability -232.101
#   warnings of the reader about rope: 0
#   patched: transformers 4.57.6, base in use 1000000, log-probability -249.996
#   again: transformers 5.23.0, base in use 1000000, log-probability -249.996
# Why: 5 writes `rope_parameters` and no `rope_theta`; 4 keeps unknown fields as attributes and takes its default
#   (rope_theta=10000.0 in models/qwen2/configuration_qwen2.py of 4.57.6). Llama, Mistral and Qwen3 have the same line.
# Instead: where the reader may be on 4, also write a top-level `rope_theta` into config.json, which 5 reads without
#   harm (`patched` and `again` above); compare one log-probability with a stored one after loading.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
for version in 5.23.0 4.57.6; do
  python3 -m venv "$version"
  "$version/bin/pip" install -qq --disable-pip-version-check torch==2.13.0 numpy==2.4.6 "transformers==$version"
done
cat > score.py <<'PY'
import json
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

transformers.utils.logging.disable_progress_bar()
if sys.argv[1] == "save":
    torch.manual_seed(0)
    size = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2}
    base = {"rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0}}
    Qwen2ForCausalLM(Qwen2Config(**size, **heads, **base)).save_pretrained("model")
path = Path("model/config.json")
config = json.loads(path.read_text())
if sys.argv[1] == "patched":
    path.write_text(json.dumps(config | {"rope_theta": config["rope_parameters"]["rope_theta"]}))
model = AutoModelForCausalLM.from_pretrained("model").eval()
rotary = model.model.rotary_emb.inv_freq
ids = torch.arange(48)[None]
with torch.no_grad():
    log_probs = model(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None]).sum().item()
base = round(rotary[1].item() ** -(len(rotary)))
print(f"{sys.argv[1]}: transformers {transformers.__version__}, base in use {base}, log-probability {log_probs:.3f}")
Path(sys.argv[1] + ".json").write_text(json.dumps([base, log_probs]))
PY
5.23.0/bin/python score.py save
echo "config.json: $(tr -d ' \n' < model/config.json | grep -o '"rope[^}]*}')"
4.57.6/bin/python score.py read 2> warnings.txt
echo "warnings of the reader about rope: $(grep -ci rope warnings.txt || true)"
4.57.6/bin/python score.py patched
5.23.0/bin/python score.py again
python3 - <<'PY'
import json
save, read, patched, again = (json.load(open(f"{name}.json")) for name in ("save", "read", "patched", "again"))
assert abs(save[0] / 1e6 - 1) < 1e-3 and abs(read[0] / 1e4 - 1) < 1e-3, (save, read)
assert abs(read[1] - save[1]) > 1 and max(abs(patched[1] - save[1]), abs(again[1] - save[1])) < 1e-2
assert "rope" not in open("warnings.txt").read().lower()
PY
