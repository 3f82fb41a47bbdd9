"""The code of the README and of the guides runs as it stands there, and their commands compose."""

import json
import re
import shlex
from pathlib import Path

import pytest

from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.networks.tiny import TinyConfig, byte_tokenizer, create_checkpoint
from oreo_agents.runs.data import encode_buffer, import_solutions
from oreo_agents.runs.jobs import SHORT
from oreo_agents.runs.overrides import UserError, check_overrides

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the README speaks of: `data/gsm8k`, `checkpoint` and `episodes`."""
    data = tmp_path / "data" / "gsm8k"
    data.mkdir(parents=True)
    row = {"question": "How many eggs are three times six eggs?", "answer": "3 * 6 = <<3*6=18>>18\n#### 18"}
    for split in ("train", "test"):
        (data / f"{split}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    create_checkpoint(
        TinyConfig(hidden_size=16, layers=1, heads=2, intermediate_size=16),
        byte_tokenizer([row["question"]], 300),
        tmp_path / "checkpoint",
        seed=0,
    )
    solutions = tmp_path / "solutions.jsonl"
    lines = [{"question": row["question"], "response": f"3 * 6 = {n}\n#### {n}", "correct": n == 18} for n in (17, 18)]
    solutions.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    buffer, _ = import_solutions(solutions, "labelled", "gsm8k", path=str(data))
    encode_buffer(buffer, PromptFormat.from_pretrained(str(tmp_path / "checkpoint"))).save(tmp_path / "episodes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Pages with Python, and how many blocks of it.
PAGES = {"README.md": 2, "docs/guides/environment.md": 1, "docs/guides/games.md": 1}


@pytest.mark.parametrize("page", PAGES)
def test_python_of_a_page_runs(page: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == PAGES[page]
    for block in blocks:
        exec(compile(block, page, "exec"), {"__name__": "readme"})
    printed = capsys.readouterr().out
    for said in SAID[page]:
        assert said in printed
    assert (workplace / "mine" / "value").exists() == (page == "README.md")


SAID = {
    "README.md": ["oreo/Arithmetic-v0 test: ", " of 100 tasks solved"],
    "docs/guides/environment.md": ["correct=True", "False\n"],
    "docs/guides/games.md": ["\n1.0 True\n"],
}


def commands(page: Path) -> list[str]:
    """Commands with settings in the shell blocks of a page."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line.partition(" #")[0].strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if re.match(r"oreo (run|train|sft|collect|eval)\b", line)]


COMMANDS = sorted({line for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")] for line in commands(page)})


@pytest.mark.slow
def test_every_command_of_the_documentation_composes() -> None:
    assert len(COMMANDS) > 20
    for line in COMMANDS:
        _, command, *given = shlex.split(line)
        overrides = [text for text in given if re.match(r"[^-][^/]*=", text) and "..." not in text]
        for short, key in SHORT.items():
            overrides = [re.sub(f"^{short}=", f"{key}=", text) for text in overrides]
        if any(text.startswith("policy.path=") for text in overrides):
            overrides = ["policy=checkpoint", *overrides]
        try:
            check_overrides(command, overrides)
        except UserError as error:
            pytest.fail(f"{line}: {error}")
