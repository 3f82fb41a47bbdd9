"""The example of the whole way, from an agent behind an API to a trained policy."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from oreo_algos import EpisodeBuffer
from oreo_envs.recording import read_rows

FILE = Path(__file__).parents[1] / "examples" / "agent_to_training.py"


@pytest.fixture
def example() -> ModuleType:
    spec = spec_from_file_location("agent_to_training", FILE)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_whole_way_runs(example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    for name, few in {"TRAIN_TASKS": 16, "SAMPLES": 2, "TEST_TASKS": 8}.items():
        monkeypatch.setattr(example, name, few)
    rates = example.main(tmp_path)
    told = capsys.readouterr().out
    assert set(rates) == {"agent", "copy", "oreo"} and [f"{n}. " in told for n in range(1, 6)] == [True] * 5
    rows, episodes = list(read_rows(tmp_path / "record")), EpisodeBuffer.load(tmp_path / "episodes")
    assert len(rows) == len(episodes) == 32 and all(episode.encoded for episode in episodes)
    assert {(row.task_id, row.sample, row.success) for row in rows} == {
        (episode.task_id, episode.info["sample"], episode.success) for episode in episodes
    }
    assert "8 tasks solved" in told and "tokens read" in told
    assert (tmp_path / "oreo" / "model.safetensors").exists()


@pytest.mark.slow
def test_oreo_learns_from_the_right_and_wrong_answers_of_the_agent(example: ModuleType, tmp_path: Path):
    rates = example.main(tmp_path)
    assert rates["oreo"] > max(rates["agent"], rates["copy"]) + 0.05
