#!/usr/bin/env bash
# What: `add_weighted_adapter` of peft makes of adapters trained with `use_rslora=True` one that is sqrt(its rank) times too strong, in
#   each way of combining: one adapter of rank 16 with weight 1.0 becomes four times itself; two with 0.5 each by "cat" are sqrt(32) times
#   their mean. Nothing warns, and the saved adapter keeps it.
# Versions: peft 0.21.2, transformers 5.23.0, torch 2.13.0.
# Expected by most: one adapter with weight 1.0 is itself, as it is without rsLoRA.
# Observed, size of the combined change of the weights over that of the weighted sum:
#   peft 0.21.2 torch 2.13.0
#   linear, one adapter with 1.0: LoRA 1.000, rsLoRA 4.000
#   cat, one adapter with 1.0: LoRA 1.000, rsLoRA 4.000
#   svd, one adapter with 1.0: LoRA 1.000, rsLoRA 4.000
#   cat, two adapters with 0.5: LoRA 1.000, rsLoRA 5.657
#   svd, two adapters with 0.5: LoRA 1.000, rsLoRA 5.657
# Why: the scales of the parts are put into A and B, and the new adapter gets alpha = r so that its own scale is 1; but it inherits
#   `use_rslora` from the first part, by which alpha / sqrt(r) is sqrt(r). Reported upstream (issue 3761, July's pull request 3449).
# Instead: add the `get_delta_weight` of the parts; or divide the weights by sqrt of the new rank, and check one adapter against itself.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check torch==2.13.0 numpy==2.4.6 transformers==5.23.0 peft==0.21.2
cat > show.py <<'PY'
import math

import peft
import torch
from torch import nn

RANK = 16


def ratio(rslora, kind, parts, weight):
    """Norm of the combined adapter's change of the weights over that of the weighted sum of the parts."""
    torch.manual_seed(0)
    config = peft.LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["0"], use_rslora=rslora, init_lora_weights=False)
    model = peft.get_peft_model(nn.Sequential(nn.Linear(64, 64, bias=False)), config, adapter_name="first")
    model.add_adapter("second", config)
    names = ["first", "second"][:parts]
    rank = RANK * parts if kind == "svd" else None
    model.add_weighted_adapter(names, [weight] * parts, "both", combination_type=kind, svd_rank=rank)
    layer = model.base_model.model[0]
    expected = sum(weight * layer.get_delta_weight(name) for name in names)
    return (layer.get_delta_weight("both").norm() / expected.norm()).item()


if __name__ == "__main__":
    print("peft", peft.__version__, "torch", torch.__version__[:6])
    for kind in ("linear", "cat", "svd"):
        plain, stable = (ratio(rslora, kind, 1, 1.0) for rslora in (False, True))
        print(f"{kind}, one adapter with 1.0: LoRA {plain:.3f}, rsLoRA {stable:.3f}")
        assert abs(plain - 1) < 1e-3 and abs(stable - math.sqrt(RANK)) < 1e-2
    for kind in ("cat", "svd"):
        plain, stable = (ratio(rslora, kind, 2, 0.5) for rslora in (False, True))
        print(f"{kind}, two adapters with 0.5: LoRA {plain:.3f}, rsLoRA {stable:.3f}")
        assert abs(plain - 1) < 1e-3 and abs(stable - math.sqrt(2 * RANK)) < 1e-2
PY
venv/bin/python -W ignore show.py 2>errors || { cat errors; exit 1; }
