"""`oreo doctor`: what a checkpoint can do is tried and told, and what it cannot is exit code 2."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_models import CHATML, FORGETFUL, make_model, make_tokenizer
from transformers import BertConfig, BertForMaskedLM

from oreo_agents.networks.value import TokenValue
from oreo_agents.runs import checkup
from oreo_agents.runs.overrides import UserError


def rows_of(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, dict[str, str]]:
    capsys.readouterr()
    if code:
        with pytest.raises(SystemExit) as stopped:
            checkup.main([*arguments, "--json"])
        assert stopped.value.code == code
    else:
        checkup.main([*arguments, "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert all(set(row) == {"name", "status", "why"} and row["status"] in ("ok", "slow", "refused") for row in rows)
    return {row["name"]: row for row in rows}


def test_a_checkpoint_that_can_do_everything(capsys, checkpoint: Callable[[str], str]):
    rows = rows_of(capsys, f"policy.path={checkpoint('llama')}")
    asked = {"template", "end tokens", "loading", "scoring", "sampling", "going on", "length", "gradient checkpointing"}
    assert asked | {"adapters", "value: loading", "value: scoring", "value: adapters"} <= set(rows)
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert "merged into plain weights" in rows["adapters"]["why"]


def test_adapters_are_tried_as_they_will_be_saved(capsys, checkpoint: Callable[[str], str]):
    where = f"policy.path={checkpoint('llama')}"
    rows = rows_of(capsys, where, "policy.lora.save=adapter", "policy.lora.rank=3", "value.lora.save=adapter")
    assert "saved by themselves" in rows["adapters"]["why"] and "saved by themselves" in rows["value: adapters"]["why"]


def test_another_way_is_slow_and_no_failure(capsys, checkpoint: Callable[[str], str]):
    rows = rows_of(capsys, f"policy.path={checkpoint('gemma2')}")
    assert rows["scoring"]["status"] == "slow" and "padded" in rows["scoring"]["why"]
    assert rows["going on"]["status"] == "slow" and rows["sampling"]["status"] == "ok"


def test_what_is_refused_is_told_with_exit_code_2(capsys, tmp_path: Path):
    rows = rows_of(capsys, f"policy.path={tmp_path / 'nowhere'}", code=2)
    assert [*rows] == ["loading"] and "nowhere: there is no such folder" in rows["loading"]["why"], "said once"
    BertForMaskedLM(
        BertConfig(vocab_size=300, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    ).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    rows = rows_of(capsys, f"policy.path={tmp_path}", code=2)
    assert rows["loading"]["status"] == "refused" and "adapters" not in rows


def test_templates_are_told_too(capsys, tmp_path: Path):
    make_model("llama").save_pretrained(tmp_path)
    make_tokenizer(template=FORGETFUL, end_of_turn=True).save_pretrained(tmp_path)
    rows = rows_of(capsys, f"policy.path={tmp_path}", code=2)
    assert rows["turns"]["status"] == "refused" and "changes earlier text" in rows["turns"]["why"]
    (tmp_path / "mine.jinja").write_text(CHATML, encoding="utf-8")
    rows = rows_of(capsys, f"policy.path={tmp_path}", f"policy.chat_template={tmp_path / 'mine.jinja'}")
    assert rows["turns"]["status"] == "ok"


def test_a_value_with_another_tokenizer_is_refused(capsys, checkpoint: Callable[[str], str], tmp_path: Path):
    value = TokenValue.from_policy(checkpoint("llama"))
    value.save(tmp_path / "same", make_tokenizer(), "")
    value.save(tmp_path / "other", make_tokenizer(template=CHATML), "")
    where = f"policy.path={checkpoint('llama')}"
    assert rows_of(capsys, where, f"value.path={tmp_path / 'same'}")["value: adapters"]["status"] == "ok"
    rows = rows_of(capsys, where, f"value.path={tmp_path / 'other'}", code=2)
    assert "another tokenizer" in rows["value: loading"]["why"]


def test_the_table_shows_every_line(capsys, checkpoint: Callable[[str], str]):
    checkup.main([f"policy.path={checkpoint('llama')}"])
    shown = capsys.readouterr().out
    assert "round trip" in shown and "value: adapters" in shown and "refused" not in shown


def test_a_command_without_a_checkpoint_or_with_a_misspelt_setting_is_a_sentence():
    for arguments in (["--json"], ["policy.path=null"]):
        with pytest.raises(UserError, match=r"give RUN/NAME or policy\.path=FOLDER_OR_HUB_NAME"):
            checkup.main(arguments)
    with pytest.raises(UserError, match=r"Ambiguous value for argument 'policy.path=a,b'"):
        checkup.main(["policy.path=a,b"])
    with pytest.raises(UserError, match=r"there is no setting 'policy.dtyp'"):
        checkup.main(["policy.path=x", "policy.dtyp=float32"])


def test_a_folder_of_a_run_stands_for_its_networks(checkpoint: Callable[[str], str], tmp_path: Path):
    run = tmp_path / "run"
    for name in ("sft", "oreo"):
        (run / name).mkdir(parents=True)
        (run / name / "policy").symlink_to(checkpoint("llama"), target_is_directory=True)
    (run / "oreo" / "value").mkdir()
    (run / "config.yaml").write_text("seed: 0")
    paths = [f'policy.path="{run}/oreo/policy"', f'value.path="{run}/oreo/value"']
    assert checkup._of_run([str(run / "oreo"), "policy.dtype=float32"]) == [*paths, "policy.dtype=float32"]
    assert checkup._of_run([str(run / "sft" / "policy")]) == [f'policy.path="{run}/sft/policy"']
    with pytest.raises(UserError, match=r"several policies: give RUN/NAME, NAME of oreo, sft"):
        checkup._of_run([str(run)])
    with pytest.raises(FileNotFoundError, match="neither a run folder"):
        checkup._of_run([str(tmp_path)])
