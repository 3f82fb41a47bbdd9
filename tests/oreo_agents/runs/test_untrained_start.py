"""Whoever trains from the network that a run's supervised fine-tuning began with is told."""

from pathlib import Path

import pytest

from oreo_agents.runs.trained_from import untrained


def run_folder(folder: Path) -> Path:
    (folder / "start").mkdir(parents=True)
    (folder / "sft" / "policy").mkdir(parents=True)
    return folder


def test_only_a_start_beside_its_fine_tuned_policy_is_told_of(tmp_path: Path):
    run = run_folder(tmp_path / "run")
    said = untrained(str(run / "start"))
    assert said is not None and f"policy.path={run / 'sft' / 'policy'}" in said
    (tmp_path / "mine" / "start").mkdir(parents=True)
    for path in (run / "sft" / "policy", tmp_path / "mine" / "start", tmp_path / "nowhere", Path("Qwen/Qwen2.5-0.5B")):
        assert untrained(str(path)) is None


@pytest.mark.parametrize(("command", "told"), [("train", True), ("sft", False)])
def test_a_command_says_so(oreo, command: str, told: bool, tmp_path: Path, capfd):
    run = run_folder(tmp_path / "run")
    with pytest.raises(SystemExit):  # there is no network in it
        oreo(command, f"policy.path={run / 'start'}")
    assert ("random weights that have learned nothing" in capfd.readouterr().out) is told
