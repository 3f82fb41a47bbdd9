"""A data set that is exported as a folder says what it is, to people and to the hub, and comes back."""

from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import DatasetCard

from oreo_agents.formats.exporting import FORMATS
from oreo_agents.formats.importing import ImportSettings, import_episodes
from oreo_agents.formats.reading import files_of
from oreo_agents.runs.data import main
from oreo_algos import Episode, EpisodeBuffer


def episode(split: str, answer: str, *, right: bool) -> Episode:
    messages = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": answer}]
    return Episode(
        tokens=np.zeros(0, np.int32),
        step_id=np.zeros(0, np.int32),
        rewards=np.asarray([float(right)], np.float32),
        action_spans=np.asarray([[1, 0, len(answer)]], np.int32),
        messages=messages,
        terminated=True,
        truncated=False,
        task_id=f"gsm8k/{split}/0",
        env_id="oreo/GSM8K-v0",
        info={"note": "n"},
        success=right,
    )


@pytest.fixture
def buffer(tmp_path: Path, monkeypatch) -> EpisodeBuffer:
    monkeypatch.chdir(tmp_path)
    found = [episode("train", "4", right=True), episode("train", "5", right=False)]
    made = EpisodeBuffer(found, provenance={"policy": "mine/model", "seed": 3})
    made.save("b")
    return made


@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_has_a_card_that_explains_each_column(name: str, buffer: EpisodeBuffer, capsys):
    main(["export", "b", "--format", name, "--out", "mine"])
    card = DatasetCard.load("mine/README.md")
    assert "ten digits" in card.text and "Dataset.from_list(" in card.text
    assert card.data.configs == [{"config_name": "default", "data_files": [{"split": "train", "path": "train.jsonl"}]}]
    assert "- policy: `mine/model`" in card.text and "of them successful" in card.text
    assert "No episode is known to be of a task that is held out" in card.text
    table = [line for line in card.text.splitlines() if line.startswith("| `")]
    assert table and not [line for line in table if line.endswith("|  |")]
    back, _ = import_episodes(files_of("mine"), ImportSettings())
    assert name in ("trl-sft", "trl-dpo", "labelled") or back.content_hash == buffer.content_hash
    with pytest.raises(ValueError, match="mine is there already"):
        main(["export", "b", "--format", name, "--out", "mine"])


def test_a_card_warns_of_held_out_tasks(buffer: EpisodeBuffer, tmp_path: Path):
    EpisodeBuffer([*buffer, episode("test", "4", right=True)]).save("t")
    main(["export", "t", "--format", "labelled", "--out", "risky"])
    text = Path("risky/README.md").read_text()
    told = "**risky holds 1 episodes of 1 tasks of oreo/GSM8K-v0 that are held out to measure with (split test)"
    assert told in text
    assert "not kept: info (3 episodes)" in text


def test_nothing_is_left_where_nothing_can_be_written(buffer: EpisodeBuffer):
    EpisodeBuffer([buffer[1]]).save("wrong")
    for name in ("trl-sft", "trl-dpo"):
        with pytest.raises(ValueError):
            main(["export", "wrong", "--format", name, "--out", "none"])
    assert not Path("none").exists()
    with pytest.raises(ValueError, match=r"--out x\.csv: write NAME\.jsonl or NAME\.parquet, or NAME, a folder"):
        main(["export", "wrong", "--format", "messages", "--out", "x.csv"])
