#!/usr/bin/env bash
# What: load_dataset("json") keeps ten digits after the point when the file is a JSON array, when `field` is given, or when objects
#   in any other column differ in their keys (chat messages of which some have `tool_calls`) or its types are mixed: a probability of
#   1.2e-11 is 0.0, its logarithm -inf. The same rows alone as JSON lines are exact.
# Versions: datasets 5.2.0 and 4.6.1 (the array: since 4.7.0), pandas 3.1.1, pyarrow 26.0.1.
# Expected by most: a float of a file is the float of the dataset, as `json.load` reads it, whatever the layout of the file and
#   whatever other columns hold. Behaviour probabilities, p-values, learning rates and small rewards live below 1e-10.
# Observed:
#   datasets 5.2.0 since 4.7.0
#   lines: [{'p': 1.2e-11, 'score': 0.1234567890123}, {'p': 0.5, 'score': 1e-06}]
#   array: [{'p': 0.0, 'score': 0.123456789}, {'p': 0.5, 'score': 1e-06}]
#   field: [{'p': 0.0, 'score': 0.12345678900000001}, {'p': 0.5, 'score': 1e-06}]
#   lines with messages: [{'p': 0.0, 'score': 0.123456789}, {'p': 0.5, 'score': 1e-06}]
#   datasets 4.6.1 until 4.6.1
#   lines: [{'p': 1.2e-11, 'score': 0.1234567890123}, {'p': 0.5, 'score': 1e-06}]
#   array: [{'p': 1.1999999999999999e-11, 'score': 0.1234567890123}, {'p': 0.5, 'score': 1e-06}]
#   field: [{'p': 0.0, 'score': 0.12345678900000001}, {'p': 0.5, 'score': 1e-06}]
# Why: packaged_modules/json/json.py reads such files and writes them anew for Arrow with pandas' `ujson_dumps`, whose
#   `double_precision` is 10. (huggingface/datasets#8652 is about the last bit that pandas' reader of `field` gets wrong, not this.)
# Instead: JSON lines whose columns have one type and the same keys in each row, or `Dataset.from_list` of what `json` read.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export HF_HOME="$dir/hf" HF_HUB_OFFLINE=1
cat > show.py <<'PY'
import json
import sys
import tempfile

import datasets

datasets.disable_progress_bars()
ROWS = [{"p": 1.2e-11, "score": 0.1234567890123}, {"p": 0.5, "score": 1e-6}]
CHATS = [[{"role": "user", "content": "Hi"}], [{"role": "assistant", "tool_calls": [{"name": "look"}]}]]
TALK = [{**row, "messages": chat} for row, chat in zip(ROWS, CHATS, strict=True)]


def read(text, **rest):
    """The rows that load_dataset makes of a file."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", dir=".", delete=False) as file:
        file.write(text)
    rows = datasets.load_dataset("json", data_files=file.name, split="train", cache_dir=tempfile.mkdtemp(dir="."), **rest)
    return [{name: row[name] for name in ("p", "score")} for row in rows]


def close(rows):
    return all(abs(row[name] / want[name] - 1) < 1e-9 for row, want in zip(rows, ROWS, strict=True) for name in want)


if __name__ == "__main__":
    print("datasets", datasets.__version__, "since 4.7.0" if sys.argv[1] == "rounds" else "until 4.6.1")
    cases = {
        "lines": (read("\n".join(map(json.dumps, ROWS))), True),
        "array": (read(json.dumps(ROWS)), sys.argv[1] == "exact"),
        "field": (read(json.dumps({"data": ROWS}), field="data"), False),
    }
    if sys.argv[1] == "rounds":
        cases["lines with messages"] = (read("\n".join(map(json.dumps, TALK))), False)
    for name, (rows, exact) in cases.items():
        print(f"{name}: {rows}")
        assert close(rows) == exact, name
        assert exact or rows[0] == {"p": 0.0, "score": rows[0]["score"]}, name
PY
for version in 5.2.0 4.6.1; do
  python3 -m venv "$version"
  "$version/bin/pip" install -qq --disable-pip-version-check "datasets==$version" pandas==3.1.1 pyarrow==26.0.1 numpy==2.4.6
  "$version/bin/python" show.py "$([ "$version" = 5.2.0 ] && echo rounds || echo exact)" 2>errors || { cat errors; exit 1; }
done
