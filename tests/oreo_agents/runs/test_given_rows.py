"""Rows in place of a buffer: what every algorithm makes of every layout, and a run that is given a file."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_models import make_tokenizer

from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.tasks import EnvSettings
from oreo_agents.formats.importing import ImportSettings, import_episodes
from oreo_agents.networks.policy import PolicySettings
from oreo_agents.runs.arguments import with_environment
from oreo_agents.runs.encoding import encode_buffer
from oreo_agents.runs.layout import Layout
from oreo_agents.runs.loading import Loader
from oreo_agents.runs.run_data import RunData
from oreo_agents.runs.settings import RunSettings
from oreo_algos import EpisodeBuffer
from oreo_algos.algos import Dpo, Kto, Oreo, RejectionSampling
from oreo_algos.algos.selection import NothingToLearnError

sys.path.append(str(Path(__file__).parents[1] / "formats"))
from layout_rows import ROWS


def write(path: Path, name: str) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS[name]), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ROWS)
def test_every_layout_is_encoded_and_chosen_from(name: str, tmp_path: Path):
    buffer, counts = import_episodes([write(tmp_path / "rows.jsonl", name)], ImportSettings())
    encoded = encode_buffer(buffer, PromptFormat(make_tokenizer()))
    one_outcome = counts.shown or name == "lm-eval, chat"
    for algorithm in (Oreo(), Kto(), RejectionSampling()):
        assert algorithm.select(encoded, np.random.default_rng(0))
    if one_outcome:
        with pytest.raises(NothingToLearnError, match="has both a successful and a failed episode"):
            Dpo().select(encoded, np.random.default_rng(0))
    else:
        pairs = Dpo().select(encoded, np.random.default_rng(0))
        assert all(right.success and not wrong.success for right, wrong in pairs)
        assert len(pairs) == (counts.pairs or len(pairs))


def test_rows_are_imported_on_the_way_and_it_is_said(tmp_path: Path, checkpoint, caplog):
    prefs, policy = write(tmp_path / "prefs.jsonl", "trl-preference, chat"), checkpoint("llama")
    settings = RunSettings(env=EnvSettings(id="oreo/Chat-v0"), policy=PolicySettings(path=policy), data=str(prefs))
    layout = Layout(tmp_path / "run", tmp_path / "run")
    for said in (True, False):  # once: then it lies there
        caplog.clear()
        data = RunData(settings, layout, Loader(settings.policy, settings.value))
        [part] = data.offline(policy)
        assert (f"data={prefs} is imported on the way" in caplog.text and "5 preference pairs" in caplog.text) is said
    assert part.path.startswith("data/imported-") and len(part.buffer.pairs) == 5 and part.buffer[0].encoded
    write(prefs, "trl-preference")
    [other] = data.offline(policy)
    assert other.path != part.path, "the file has changed"
    prefs.write_text('{"prompt": "q", "completion": "a", "reward": 0.3}')
    with pytest.raises(ValueError, match=r"--success-threshold.*; options that begin with -- are those of `oreo"):
        data.offline(policy)
    prefs.write_text('{"prompt": "q"}')
    with pytest.raises(ValueError, match=r"data=.* is no buffer, and was read as rows: .*line 1: a prompt without"):
        data.offline(policy)


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        (["data=rows.jsonl"], True),
        (["data=[rows.jsonl,b]"], True),
        (["data=hub:o/n"], True),
        (["data=of-none"], True),
        (["data=of-one"], False),
        (["data=nothing"], False),
        (["data=rows"], True),
        (["data=rows.jsonl", "env=gsm8k"], False),
        (["data=rows.jsonl", "run=RUN", "~env", "++env={}"], False),
        (["seed=1"], False),
    ],
)
def test_rows_without_an_environment_are_of_none(
    given: list[str], chosen: bool, tmp_path: Path, monkeypatch, make_buffer
):
    monkeypatch.chdir(tmp_path)
    for rows in (Path("rows.jsonl"), Path("rows/train.jsonl")):
        rows.parent.mkdir(exist_ok=True)
        rows.write_text("{}")
    make_buffer("oreo/Chat-v0").save("of-none")
    make_buffer("oreo/GSM8K-v0").save("of-one")
    for command in ("run", "train", "eval"):
        assert (with_environment(command, given) == ["env=chat", *given]) is chosen
    assert with_environment("collect", given) == given


@pytest.fixture
def make_buffer(tmp_path: Path):
    from oreo_agents.episodes.texts import text_episode

    def make(env_id: str) -> EpisodeBuffer:
        asked = [{"role": "user", "content": "q"}]
        return EpisodeBuffer([text_episode(asked, ["a"], [1.0], task_id="t", env_id=env_id, info={})])

    return make
