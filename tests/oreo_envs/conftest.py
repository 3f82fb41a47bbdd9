"""Small data sets on disk, and the way to the real ones."""

import os
from pathlib import Path

import pytest
from alfworld_samples import write_games
from env_samples import GSM8K_ROWS, MATH_ROWS, QA_ROWS, write_jsonl

from oreo_envs.textworld_games import TextWorldEnv


@pytest.fixture(scope="session")
def textworld_games(shared_folder: Path) -> Path:
    """Where games of TextWorld are kept: each is made once a session."""
    folder = shared_folder / "textworld"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def data_folder(tmp_path: Path, textworld_games: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder laid out as OREO_DATA, with a handful of problems; the hub is out of reach."""
    for name, rows in (("gsm8k", GSM8K_ROWS), ("math", MATH_ROWS), ("qa", QA_ROWS)):
        (tmp_path / name).mkdir()
        for split in ("train", "test"):
            write_jsonl(tmp_path / name / f"{split}.jsonl", rows)
    write_games(tmp_path / "alfworld")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "textworld").symlink_to(textworld_games)
    # Each game takes seconds to make.
    monkeypatch.setitem(TextWorldEnv.__init__.__kwdefaults__, "num_games", 3)
    monkeypatch.setenv("OREO_DATA", str(tmp_path))
    monkeypatch.setenv("OREO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


@pytest.fixture
def real_data() -> Path:
    """The real data sets; skips where there are none."""
    root = os.environ.get("OREO_DATA")
    if not root or not (Path(root) / "gsm8k").is_dir() or not (Path(root) / "math").is_dir():
        pytest.skip("OREO_DATA names no folder with gsm8k/ and math/")
    return Path(root)


@pytest.fixture
def model_solutions() -> Path:
    """Labelled responses of real models; skips where there are none."""
    root = os.environ.get("OREO_DATA")
    folder = Path(root) / "model_solutions" if root else None
    if folder is None or not folder.is_dir():
        pytest.skip("OREO_DATA names no folder with model_solutions/")
    return folder


@pytest.fixture(scope="session")
def alfworld_pack() -> Path:
    """ALFWorld's real games; skips where there are none."""
    root = os.environ.get("OREO_DATA")
    folder = Path(root) / "alfworld" if root else None
    if folder is None or not folder.is_dir():
        pytest.skip("OREO_DATA names no folder with alfworld/")
    return folder
