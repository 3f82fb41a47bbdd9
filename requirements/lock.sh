#!/usr/bin/env bash
# Writes the locked requirements of this folder; argument: the uv to use.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$1
all=$(mktemp)
trap 'rm -f "$all"' EXIT
lock() { "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-annotate --no-header --upgrade "$@"; }
lock pyproject.toml --all-extras -o "$all"
lock pyproject.toml -c "$all" -o requirements/runtime.txt
lock pyproject.toml -c "$all" --extra dev --extra bench --extra docs --extra serve -o requirements/dev.txt
lock pyproject.toml -c "$all" --extra docs -o requirements/docs.txt
lock pyproject.toml -c "$all" --extra alfworld -o requirements/alfworld.txt
lock pyproject.toml -c "$all" --extra reasoning-gym -o requirements/reasoning-gym.txt
echo uv | lock - -o requirements/bootstrap.txt
