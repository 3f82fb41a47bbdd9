#!/usr/bin/env bash
# What: after `pip install hydra-core`, `pip install "math-verify[antlr4_13_2]"` exits 0 and breaks `import hydra`; with
#   pip 23.2.1 the same two lines break nothing, as that pip drops the extra and goes on.
# Versions: math-verify 0.9.0, hydra-core 1.3.8, pip 23.2.1 (comes with Python 3.11.7) and 26.2.
# Expected by most: an extra of a grader cannot break a config library; pip fails where it leaves a broken environment.
# Observed:
#   pip 23.2.1: exit code 0
#   math-verify 0.9.0 does not provide the extra 'antlr4_13_2'
#   import hydra: ok 1.3.8
#   pip 26.2: exit code 0
#   hydra-core 1.3.8 requires antlr4-python3-runtime==4.9.*, but you have antlr4-python3-runtime 4.13.2
#   Exception: Could not deserialize ATN with version 3 (expected 4).
#   pip 26.2, both in one command: exit code 1, ResolutionImpossible
#   antlr4_9_3: import hydra: ok 1.3.8
# Why: hydra-core and omegaconf carry parsers generated for ANTLR 4.9 and ask for that runtime; the extra asks for
#   4.13.2. pip does not weigh packages already installed, and its message about them is no failure. pip 23.2.1 does not
#   take `antlr4_13_2` for the `Provides-Extra: antlr4-13-2` of the metadata; pip 23.3 does.
# Instead: math-verify[antlr4_9_3], the one extra that fits; install both in one command (a new pip then refuses); run
#   `pip check`.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
for pip in 23.2.1 26.2; do
  python3 -m venv "$pip"
  "$pip/bin/python" -m pip install -qq --disable-pip-version-check "pip==$pip"
  "$pip/bin/python" -m pip install -qq hydra-core==1.3.8
  code=0
  "$pip/bin/python" -m pip install "math-verify[antlr4_13_2]==0.9.0" > "$pip.txt" 2>&1 || code=$?
  echo "pip $pip: exit code $code"
  grep -oE "math-verify .* the extra.*|^hydra-core .*runtime 4.13.2" "$pip.txt"
  "$pip/bin/python" -c "import hydra; print('import hydra: ok', hydra.__version__)" > import.txt 2>&1 || true
  tail -n 1 import.txt | tee "$pip.import.txt"
  [ "$code" = 0 ]
done
grep -q "does not provide the extra 'antlr4_13_2'" 23.2.1.txt
grep -q "import hydra: ok" 23.2.1.import.txt
grep -q "Could not deserialize ATN with version 3 (expected 4)" 26.2.import.txt
code=0
26.2/bin/python -m pip install --dry-run hydra-core==1.3.8 "math-verify[antlr4_13_2]==0.9.0" > one.txt 2>&1 || code=$?
echo "pip 26.2, both in one command: exit code $code, $(grep -o ResolutionImpossible one.txt)"
[ "$code" = 1 ]
26.2/bin/python -m pip install -qq "math-verify[antlr4_9_3]==0.9.0"
26.2/bin/python -c "from math_verify import parse, verify; assert verify(parse('1/2'), parse('0.5'))"
26.2/bin/python -c "import hydra; print('antlr4_9_3: import hydra: ok', hydra.__version__)"
