#!/usr/bin/env bash
# What: AutoTokenizer of transformers 5 reads a saved PreTrainedTokenizerFast as another tokenizer when config.json beside
#   it says `"model_type": "qwen2"`: the same text becomes other ids, here none; nothing is raised.
# Versions: transformers 5.23.0, tokenizers as it requires; no torch.
# Expected by most: what was saved with save_pretrained comes back, whatever model lies beside it.
# Observed:
#   transformers 5.23.0
#   saved: TokenizersBackend [1, 2, 3, 4] 'Tom has 3 apples'
#   beside llama: TokenizersBackend [1, 2, 3, 4] 'Tom has 3 apples'
#   beside qwen2: Qwen2Tokenizer [] 'Tom has 3 apples'
#   by its class: [1, 2, 3, 4]
# Why: for some model types AutoTokenizer takes the family's class in place of the class that tokenizer_config.json
#   names; that class rebuilds pre-tokenizer and decoder (byte level) around the saved vocabulary.
# Instead: read such a folder with PreTrainedTokenizerFast.from_pretrained, and compare ids of a sentence after loading.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check transformers==5.23.0
cat > show.py <<'PY'
import json
from pathlib import Path

import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

words = ["<unk>", "Tom", " has", " 3", " apples"]
inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
inner.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?\w+"), "isolated")
inner.decoder = decoders.Fuse()
saved = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
text = "Tom has 3 apples"
print("transformers", transformers.__version__)
print("saved:", type(saved).__name__, saved(text)["input_ids"], repr(saved.decode(saved(text)["input_ids"])))
saved.save_pretrained("folder")
found = {}
for model_type in ("llama", "qwen2"):
    Path("folder/config.json").write_text(json.dumps({"model_type": model_type}))
    loaded = AutoTokenizer.from_pretrained("folder")
    ids = loaded(text, add_special_tokens=False)["input_ids"]
    found[model_type] = ids
    print(f"beside {model_type}:", type(loaded).__name__, ids, repr(loaded.decode(saved(text)["input_ids"])))
plain = PreTrainedTokenizerFast.from_pretrained("folder")
print("by its class:", plain(text)["input_ids"])
assert found["llama"] == saved(text)["input_ids"] == plain(text)["input_ids"], found
assert found["qwen2"] != saved(text)["input_ids"], found
PY
venv/bin/python show.py 2> /dev/null
