#!/usr/bin/env bash
# Every check of the project that needs a CUDA device, one after the other, and a table of how each ended.
#
#     bash benchmarks/gpu.sh [OUT]        # OUT: folder of the logs and rows, default outputs/gpu
#
# The tests marked `gpu`, then the benchmarks of updates, preference pairs, packing, sampling and search, each against its
# peer in the same process (`side_by_side.py`), small (`--quick`) and with a limit of its own: 12 minutes at most in all.
# A check that fails or runs out of time does not stop the others; the exit code is 1 then. PYTHON chooses the interpreter.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
out=${1:-outputs/gpu}
if ! device=$("$python" -c 'import torch; print(torch.cuda.get_device_name())' 2>/dev/null); then
  echo "gpu.sh: $python has no torch, or torch finds no CUDA device; there is nothing to check here" >&2
  exit 2
fi
mkdir -p "$out"
failed=0
table=$(printf '| check | result | seconds |\n|---|---|---:|')

check() { # NAME LIMIT_S COMMAND...
  local name=$1 limit=$2 code=0 begun=$SECONDS result=passed
  shift 2
  echo "$name ..." >&2
  timeout "$limit" "$@" >"$out/$name.out" 2>"$out/$name.err" || code=$?
  if [ "$code" -eq 124 ]; then result="not done in $limit s"; elif [ "$code" -ne 0 ]; then result="failed ($code)"; fi
  [ "$code" -eq 0 ] || failed=1
  table+=$(printf '\n| %s | %s | %s |' "$name" "$result" $((SECONDS - begun)))
}

check tests 240 "$python" -m pytest -q -m gpu tests
for name in update_step dpo_step packing sampling beam_search; do
  check "$name" 90 "$python" "benchmarks/$name.py" --quick --device cuda --json
done

printf '\n%s, %s\n\n%s\n\n' "$device" "$("$python" -c 'import torch; print("torch", torch.__version__)')" "$table"
"$python" - "$out" <<'PY'
import json
import sys
from pathlib import Path

print("| measured | ours | peer | unit | times | n |\n|---|---:|---:|---|---:|---:|")
for file in sorted(Path(sys.argv[1]).glob("*.out")):
    try:
        rows = json.loads(file.read_text())
    except ValueError:  # of the tests, or of what failed
        continue
    for row in rows:
        print("| {name} | {ours:.4g} | {peer:.4g} | {unit} | {ratio:.2f} | {n} |".format(**row))
PY
exit "$failed"
