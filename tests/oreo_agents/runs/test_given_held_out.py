"""Runs that are given held-out tasks to learn from: refused, or learned from and said wherever results are."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from tiny_models import make_model, make_tokenizer

from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.texts import text_episode
from oreo_agents.runs import cli
from oreo_agents.runs.encoding import encode_buffer
from oreo_algos import EpisodeBuffer

LITTLE = ["evaluate.tasks=2", "evaluate.sampling.max_new_tokens=4", "algo.batch_size=4", "env.path=gsm8k"]


def question(split: str, n: int) -> str:
    return f"{split}: what is {n} + 2?"


@pytest.fixture
def place(tmp_path: Path, monkeypatch) -> Path:
    """Data of GSM8K, a policy, a clean and another buffer, and rows that answer test questions."""
    monkeypatch.chdir(tmp_path)
    make_model("llama", context=256).save_pretrained("model")
    make_tokenizer().save_pretrained("model")
    Path("gsm8k").mkdir()
    for split in ("train", "test"):
        rows = [{"question": question(split, n), "answer": f"#### {n + 2}"} for n in range(4)]
        Path(f"gsm8k/{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, split in (("clean", "train"), ("other", "test")):
        episodes = [
            text_episode(
                [{"role": "user", "content": question(split, n)}],
                [f"#### {n + 2 + wrong}"],
                [float(not wrong)],
                task_id=f"gsm8k/{split}/{n}",
                env_id="oreo/GSM8K-v0",
                info={},
            )
            for n in range(3)
            for wrong in (0, 1)
        ]
        encode_buffer(EpisodeBuffer(episodes), PromptFormat(make_tokenizer())).save(name)
    rows = [{"question": question("test", 1), "response": f"#### {n}", "correct": n == 3} for n in (3, 4)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def train(*arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["oreo", "train", "algo=dpo", "env=gsm8k", "policy.path=model", *LITTLE, *arguments])
        cli.main()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("[clean,other]", ("data=other holds 6 episodes of 3 tasks", "split test", "such as gsm8k/test/0")),
        ("rows.jsonl", ("data=rows.jsonl: 2 of 2 rows answer held-out tasks", "such as gsm8k/test/1")),
    ],
)
def test_held_out_tasks_are_refused_with_what_would_help(data: str, told, place: Path, capsys):
    with pytest.raises(SystemExit) as stopped:
        train(f"data={data}", "hydra.run.dir=run")
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and all(text in said for text in (*told, "allow_held_out=true"))
    assert not Path("run/dpo").exists()


def test_where_it_is_allowed_results_report_card_and_log_say_so(place: Path):
    train("data=[clean,other]", "allow_held_out=true", "hydra.run.dir=run")

    run = Path("run")
    [clean, other] = json.loads((run / "results.json").read_text())["training"]["dpo"]["buffers"]
    assert "held_out" not in clean and other["held_out"]["episodes"] == 6
    assert other["held_out"]["splits"] == {"test": 6} and other["held_out"]["example"] == "gsm8k/test/0"
    assert (
        "dpo learned from 6 episodes of 3 held-out tasks (split test, such as gsm8k/test/0"
        in (run / "report.md").read_text()
    )
    card = (run / "dpo" / "policy" / "README.md").read_text()
    assert "6 of them answer tasks that are held out (split test), such as gsm8k/test/0" in card
    assert "they are learned from, and only other tasks measure anything" in (run / "cli.log").read_text()
    assert yaml.safe_load((run / "config.yaml").read_text())["allow_held_out"] is True
