#!/usr/bin/env bash
# What: with longrope the log-probabilities of a short row depend on the padded length of the batch: past
#   original_max_position_embeddings every row is rotated by the long factors, also rows that are short themselves.
# Versions: transformers 5.23.0 (5.24.0 the same), torch 2.13.0; a tiny random Phi3.
# Expected by most: with right padding and an attention mask a row scores the same alone as in any batch, up to
#   rounding.
# Observed:
#   alone: -110.882
#   beside a row of 32: -110.882
#   beside a row of 33: -98.012
#   alone, padded to 33: -98.012
# Why: transformers/modeling_rope_utils.py, longrope_frequency_update: seq_len = max(position_ids) + 1 is one number for
#   the batch and picks the short or the long factors for all rows. Padding counts, as positions are 0 .. length - 1 by
#   default.
# Instead: score and train such models in batches whose rows are all on one side of the limit, and pad none across it;
#   the ratio of a new and an old policy is wrong when their batches differ.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check torch==2.13.0 numpy==2.4.6 transformers==5.23.0
venv/bin/python - <<'PY'
import torch
import transformers
from transformers import Phi3Config, Phi3ForCausalLM

LIMIT, SHORT = 32, 20
rope = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
size = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
config = Phi3Config(
    **size, rope_parameters=rope | {"original_max_position_embeddings": LIMIT, "factor": 8.0}, initializer_range=0.2,
    original_max_position_embeddings=LIMIT, max_position_embeddings=8 * LIMIT, num_key_value_heads=4,
    pad_token_id=0, bos_token_id=1, eos_token_id=2,
)
torch.manual_seed(0)
model = Phi3ForCausalLM(config).eval()


@torch.no_grad()
def score(padded, neighbour=0):
    """The log-probability of one short row, padded on the right, alone or beside a row of `neighbour` tokens."""
    ids = torch.zeros(2, padded, dtype=torch.long)
    ids[0, :SHORT], ids[1, :neighbour] = torch.arange(3, 3 + SHORT), torch.arange(3, 3 + neighbour)
    rows = 2 if neighbour else 1
    logits = model(input_ids=ids[:rows], attention_mask=(ids[:rows] > 0).long()).logits[0, : SHORT - 1]
    return logits.log_softmax(-1).gather(-1, ids[0, 1:SHORT, None]).sum().item()


print("transformers", transformers.__version__, "- log-probability of one row of 20 tokens; short factors up to 32")
rows = {"alone": (20,), "beside a row of 32": (32, 32), "beside a row of 33": (33, 33), "alone, padded to 33": (33,)}
seen = {name: score(*arguments) for name, arguments in rows.items()}
for name, value in seen.items():
    print(f"{name}: {value:.3f}")
alone, within, beyond, padded = seen.values()
assert abs(within - alone) < 1e-3 and abs(beyond - alone) > 1 and abs(padded - beyond) < 1e-3
PY
