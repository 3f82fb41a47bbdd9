"""Files of a run, and of settings, that are damaged or of another form: a sentence that names them."""

import sys
from pathlib import Path

import pytest

from oreo_agents import plugins
from oreo_agents.runs import cli
from oreo_agents.runs.run_folders import evaluation_overrides
from oreo_algos.training.metrics_writer import read_metrics
from oreo_algos.training.warning_log import Finding, read_warnings


@pytest.mark.parametrize("line", ["{", "null", "[1]", '{"a": "b"}', "[" * 9999, "\udc80"])
def test_damaged_metrics_are_named_by_line(line: str, tmp_path: Path):
    content = f'{{"step": 1, "train/loss": NaN}}\n{line}\n{{"step"'
    (tmp_path / "metrics.jsonl").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2: damaged"):
        read_metrics(tmp_path)


def test_what_is_no_warning_is_left_out(tmp_path: Path):
    lines = ["null", "[1]", '{"name": "a"}', '{"name": "a", "text": "b", "more": 1}', "{", "[" * 9999]
    (tmp_path / "warnings.jsonl").write_text("\n".join(lines))
    assert read_warnings(tmp_path) == [Finding("a", "b")]


@pytest.mark.parametrize("text", ["", "seed: 1\n", "env: 3\npolicy: 4\n", "env: {}\n"])
def test_a_configuration_without_what_is_measured_is_refused(text: str, tmp_path: Path):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"config\.yaml: no configuration of a run: it has no settings of"):
        evaluation_overrides(tmp_path, [])


@pytest.mark.parametrize("text", ["!!python/object/apply:os.getcwd []", "a: " + "[" * 3000, "a: [", "a: \0"])
def test_files_of_settings_that_are_no_data_are_said(text: str, tmp_path: Path, monkeypatch, capsys):
    (tmp_path / "algo").mkdir()
    (tmp_path / "algo" / "mine.yaml").write_text(text)
    monkeypatch.setattr(sys, "argv", ["oreo", "train", "--config-dir", str(tmp_path), "algo=mine"])
    plugins.forget()
    with pytest.raises(SystemExit) as ended:
        cli.main()
    plugins.forget()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith("oreo: ") and "Traceback" not in said, said


def test_a_file_of_settings_that_unfolds_to_more_than_the_limit_is_refused(tmp_path: Path, monkeypatch, capsys):
    file = tmp_path / "algo" / "mine.yaml"
    file.parent.mkdir()
    monkeypatch.setattr(sys, "argv", ["oreo", "train", "--config-dir", str(tmp_path), "algo=mine"])
    monkeypatch.setenv("OREO_MAX_ALIASED", "30")
    for text in ("a: &a [1, 1, 1]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n", "a: 1\n" * 2**18):
        file.write_text(text)
        plugins.forget()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        plugins.forget()
        said = capsys.readouterr().err
        assert ended.value.code == 2 and "algo/mine.yaml: " in said, said
        assert "more than 30 values" in said or "at most 1,048,576" in said
