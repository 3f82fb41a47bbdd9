#!/usr/bin/env bash
# What: a column of numbers and strings becomes the type Json, which decodes every string that is JSON by itself: "7" and "007" are the
#   number 7, "1.50" is 1.5, "null" is None, "[1, 2]" a list; "seven" stays. One number among gold answers that are strings is enough,
#   in a file or in what `map` returns. `map(str)` over the column changes nothing but None, for what it returns is decoded again; with
#   `features` of strings the words come with quotation marks inside.
# Versions: datasets 5.2.0 (the type Json came with 4.7.0), pandas 3.1.1, pyarrow 26.0.1.
# Expected by most: an error, as before, or a column that gives back what was put in; `map` stores what the function returns.
# Observed:
#   datasets 5.2.0
#   given: [7, '7', '007', '1.50', 'null', '[1, 2]', 'seven']
#   strings only: Value('string') ['7', '007', '1.50', 'null', '[1, 2]', 'seven']
#   with a number: Json(decode=True) [7, 7, 7, 1.5, None, [1, 2], 'seven']
#   map(str) of it: Json(decode=True) [7, 7, 7, 1.5, 'None', [1, 2], 'seven']
#   read as strings: Value('string') ['7', '7', '007', '1.50', 'null', '[1, 2]', '"seven"']
#   made by map: Json(decode=True) [7, 7, 7, 1.5, None, [1, 2], 'seven']
# Why: `Json.encode_example` and `json_encode_field` leave a string as it is where `ujson_loads` can read it, since it may be encoded
#   already; decoding reads it. `load_dataset("json")` and `map` choose the type by themselves (`on_mixed_types="use_json"`).
# Instead: answers as strings in the file, every one; `map(..., on_mixed_types=None)` raises; another column for `map(str)` keeps
#   what is left. Check `dataset.features` for Json before the gold answers are used.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export HF_HOME="$dir/hf" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check datasets==5.2.0 pandas==3.1.1 pyarrow==26.0.1 numpy==2.4.6
cat > show.py <<'PY'
import json
import tempfile

import datasets
from datasets import Dataset, Features, Value

datasets.disable_progress_bars()
STRINGS = ["7", "007", "1.50", "null", "[1, 2]", "seven"]
MIXED = [7, *STRINGS]
DECODED = [7, 7, 7, 1.5, None, [1, 2], "seven"]


def read(answers, **rest):
    """The answers after a file of JSON lines and load_dataset."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", dir=".", delete=False) as file:
        file.writelines(json.dumps({"answer": answer}) + "\n" for answer in answers)
    return datasets.load_dataset("json", data_files=file.name, split="train", cache_dir=tempfile.mkdtemp(dir="."), **rest)


if __name__ == "__main__":
    print("datasets", datasets.__version__)
    mixed = read(MIXED)
    found = {
        "strings only": (read(STRINGS), STRINGS),
        "with a number": (mixed, DECODED),
        "map(str) of it": (mixed.map(lambda row: {"answer": str(row["answer"])}), [*DECODED[:4], "None", *DECODED[5:]]),
        "read as strings": (read(MIXED, features=Features({"answer": Value("string")})), ["7", *STRINGS[:-1], '"seven"']),
        "made by map": (Dataset.from_dict({"n": range(7)}).map(lambda row: {"answer": MIXED[row["n"]]}), DECODED),
    }
    print("given:", MIXED)
    for name, (table, expected) in found.items():
        print(f"{name}: {table.features['answer']} {table['answer'][:]}")
        assert table["answer"][:] == expected, name
PY
venv/bin/python show.py 2>errors || { cat errors; exit 1; }
