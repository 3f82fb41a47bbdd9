#!/usr/bin/env bash
# What: Minari 0.5.4 writes an episode whose info is a one-dimensional array, on its Arrow storage, without a word, and cannot read the
#   episode again: "invalid literal for int()". The same numbers as a list, or an array of two dimensions, come back; on its other storage
#   all do. The extra `arrow` does not install Pillow either, which that storage imports.
# Versions: minari 0.5.4, pyarrow 26.0.1, h5py 3.16.0, numpy 2.4.6, Pillow 13.0.0.
# Expected by most: what a data set took, it gives back, whichever storage; an environment's infos are arrays as a rule.
# Observed:
#   arrow, without Pillow: ModuleNotFoundError: No module named 'PIL'
#   arrow: list back, array of 1 dimension ValueError, array of 2 dimensions back
#   hdf5: list back, array of 1 dimension back, array of 2 dimensions back
# Instead: turn one-dimensional arrays in infos into lists before they are written, and read a written data set once before the run goes on.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check "minari[arrow]==0.5.4" pyarrow==26.0.1 h5py==3.16.0 numpy==2.4.6
cat > show.py <<'PY'
import sys
import warnings

import minari
import numpy as np
from gymnasium.spaces import Text
from minari.data_collector.episode_buffer import EpisodeBuffer

warnings.simplefilter("ignore")
INFOS = {"list": [1.0, 2.0], "array of 1 dimension": np.array([1.0, 2.0]), "array of 2 dimensions": np.ones((2, 3))}


def back(storage, number, value):
    """Write an episode of one step with this info, and read it."""
    episode = EpisodeBuffer(
        id=0, observations=["a", "b"], actions=["x"], rewards=[1.0], terminations=[True], truncations=[False], infos={"n": value}
    )
    name, text = f"{storage}{number}-v0", Text(9)
    minari.create_dataset_from_buffers(name, [episode], observation_space=text, action_space=text, data_format=storage)
    try:
        return "back" if np.size(minari.load_dataset(name)[0].infos["n"]) else "empty"
    except Exception as error:
        return type(error).__name__


storage = sys.argv[1]
try:
    found = {name: back(storage, number, value) for number, (name, value) in enumerate(INFOS.items())}
except ModuleNotFoundError as error:
    print(f"{storage}, without Pillow: ModuleNotFoundError: {error}")
    raise SystemExit(3) from None
print(f"{storage}: {', '.join(f'{name} {what}' for name, what in found.items())}")
expected = dict.fromkeys(INFOS, "back")
if storage == "arrow":
    expected["array of 1 dimension"] = "ValueError"
assert found == expected, found
PY
export MINARI_DATASETS_PATH="$dir/sets"
code=0
venv/bin/python -W ignore show.py arrow 2>/dev/null || code=$?
test "$code" -eq 3
venv/bin/pip install -qq --disable-pip-version-check pillow==13.0.0
MINARI_DATASETS_PATH="$dir/again" venv/bin/python -W ignore show.py arrow
venv/bin/pip install -qq --disable-pip-version-check "minari[hdf5]==0.5.4" h5py==3.16.0
venv/bin/python -W ignore show.py hdf5
