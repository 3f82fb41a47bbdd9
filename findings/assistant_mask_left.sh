#!/usr/bin/env bash
# What: `apply_chat_template(..., return_assistant_tokens_mask=True)` of transformers with truncation on the left: when the first
#   assistant turn is cut away, the mask is 0 for all turns after it too, though they are whole. Nothing warns.
# Versions: transformers 5.23.0, tokenizers 0.23.3, Jinja2 3.1.6.
# Expected by most: what is left of a conversation keeps its mask, whichever side was cut. A long dialogue cut on the left, to keep
#   its last answer, is the usual reason to cut there.
# Observed, length, and the text under the mask:
#   transformers 5.23.0 tokenizers 0.23.3
#   cut on the left at None: 16 tokens, mask: 'four [end] nine [end]'
#   cut on the right at 11: 11 tokens, mask: 'four [end]'
#   cut on the left at 11: 11 tokens, mask: 'four [end] nine [end]'
#   cut on the left at 8: 8 tokens, mask: ''
#   the row whose mask is empty: [user] three times three [end] [bot] nine [end]
# Why: the loop over the assistant spans ends at the first one whose first character has no token. Cut on the right, all later spans
#   are gone as well; cut on the left, they are what is left.
# Instead: render without truncation and cut ids and mask together, `ids[-n:]`, `mask[-n:]`; and count the rows whose mask is all 0.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check transformers==5.23.0 tokenizers==0.23.3 jinja2==3.1.6
cat > show.py <<'PY'
from importlib.metadata import version

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

WORDS = "[UNK] [user] [bot] [end] two plus is four three times nine one".split()
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ '[bot] ' }}{% generation %}{{ m['content'] + ' [end]' }}"
    "{% endgeneration %}{{ ' ' }}{% else %}{{ '[user] ' + m['content'] + ' [end] ' }}{% endif %}{% endfor %}"
)
CHAT = [
    {"role": "user", "content": "two plus two"},
    {"role": "assistant", "content": "four"},
    {"role": "user", "content": "three times three"},
    {"role": "assistant", "content": "nine"},
]


def masked(side, length):
    """How many ids are left, and the words under the assistant mask."""
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", truncation_side=side)
    tokenizer.chat_template = TEMPLATE
    row = tokenizer.apply_chat_template(
        CHAT, return_dict=True, return_assistant_tokens_mask=True, truncation=length is not None, max_length=length
    )
    ids, mask = row["input_ids"], row["assistant_masks"]
    return len(ids), " ".join(WORDS[i] for i, on in zip(ids, mask, strict=True) if on), " ".join(WORDS[i] for i in ids)


if __name__ == "__main__":
    print("transformers", version("transformers"), "tokenizers", version("tokenizers"))
    for side, length, expected in (
        ("left", None, "four [end] nine [end]"),
        ("right", 11, "four [end]"),
        ("left", 11, "four [end] nine [end]"),
        ("left", 8, ""),
    ):
        count, under, text = masked(side, length)
        print(f"cut on the {side} at {length}: {count} tokens, mask: {under!r}")
        assert under == expected
    print(f"the row whose mask is empty: {text}")
    assert text.endswith("nine [end]")
PY
venv/bin/python -W ignore show.py 2>errors || { cat errors; exit 1; }
