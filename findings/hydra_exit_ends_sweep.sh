#!/usr/bin/env bash
# What: sys.exit(0) in one job of a Hydra multirun ends the whole sweep: later jobs never start and the exit code is 0.
# Versions: hydra-core 1.3.8, the basic launcher and sweeper.
# Expected by most: one job cannot end the others, as with an ordinary exception, after which the later jobs run and the
#   sweep exits 1; and a sweep that exits 0 has run every job.
# Observed:
#   raise: started job 1,job 2,job 3; exit code 1
#   exit: started job 1,job 2; exit code 0
#   argparse: started job 1,job 2; exit code 2
# Why: run_job in hydra/core/utils.py stores `except Exception` in the job's return; SystemExit is none and leaves the
#   loop of BasicLauncher.launch (hydra/_internal/core_plugins/basic_launcher.py). argparse's error() exits so.
# Instead: in the task function turn SystemExit into a return (code 0) or into an ordinary exception, and count the
#   results of a sweep rather than trust its exit code.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check hydra-core==1.3.8
cat > app.py <<'PY'
import argparse
import sys

import hydra


@hydra.main(version_base=None, config_path=None)
def main(cfg):
    print(f"job {cfg.job}", flush=True)
    if cfg.job == 2 and cfg.how == "raise":
        raise ValueError("job 2 fails")
    if cfg.job == 2 and cfg.how == "exit":
        sys.exit(0)
    if cfg.job == 2 and cfg.how == "argparse":
        argparse.ArgumentParser().parse_args(["--unknown"])


main()
PY
sweep() {
  local code=0 started
  venv/bin/python app.py -m +job=1,2,3 +how="$1" hydra.sweep.dir="$1" > "$1.txt" 2> "$1.err" || code=$?
  started=$(grep '^job' "$1.txt" | paste -sd ,)
  echo "$1: started $started; exit code $code"
  [ "$started; $code" = "$2" ]
}
venv/bin/python -c "import hydra; print('hydra-core', hydra.__version__, '- three jobs, the second one ends by itself')"
sweep raise "job 1,job 2,job 3; 1"
sweep exit "job 1,job 2; 0"
sweep argparse "job 1,job 2; 2"
