"""Which buffers a policy of a run learned from, and what rounds are called."""

from pathlib import Path

import pytest

from oreo_agents.layout import Layout, round_name, split_round
from oreo_agents.loading import Loader
from oreo_agents.run_data import RunData
from oreo_agents.settings import EnvSettings, RunSettings
from oreo_agents.texts import text_episode
from oreo_algos import EpisodeBuffer
from oreo_algos.algos import Dpo, Oreo


def save(path: Path, question: str) -> None:
    prompt = [{"role": "user", "content": question}]
    episode = text_episode(prompt, ["#### 1"], [1.0], task_id=question, env_id="oreo/GSM8K-v0", info={})
    EpisodeBuffer([episode]).save(path)


@pytest.mark.parametrize(("algorithm", "number"), [("oreo", 1), ("oreo", 2), ("oreo-step", 10), ("sft", 1)])
def test_the_name_of_a_round_tells_algorithm_and_number(algorithm: str, number: int):
    assert split_round(round_name(algorithm, number)) == (algorithm, number)
    assert round_name("oreo", 1) == "oreo" and round_name("oreo", 2) == "oreo-round2"


@pytest.mark.parametrize("given", [False, True])
def test_what_a_policy_has_seen_is_what_it_learned_from_whatever_else_is_there(given: bool, tmp_path: Path):
    """All buffers are there, as when a finished run is started again."""
    (tmp_path / "test.jsonl").write_text('{"question": "q", "answer": "1\\n#### 1"}\n', encoding="utf-8")
    layout = Layout(tmp_path / "run", tmp_path / "run")
    offline = tmp_path / "given" if given else layout.offline
    save(layout.demonstrations, "shown")
    save(offline, "offline")
    for name in ("oreo", "dpo"):
        for number in (2, 3):
            save(layout.episodes(name, number), f"{name} {number}")
    settings = RunSettings(
        env=EnvSettings(id="oreo/GSM8K-v0", path=str(tmp_path)),
        algorithms={"oreo": Oreo(), "dpo": Dpo()},
        data=str(offline) if given else None,
    )
    data = RunData(settings, layout, Loader(settings.policy, settings.value))
    assert data.seen_by(["sft"]) == data.seen_by(["a checkpoint from elsewhere"]) == {"shown"}
    assert data.seen_by(["oreo"]) == data.seen_by(["dpo"]) == {"shown", "offline"}
    assert data.seen_by(["dpo-round2"]) == {"shown", "offline", "dpo 2"}
    assert data.seen_by(["oreo-round3"]) == {"shown", "offline", "oreo 2", "oreo 3"}
    # The start, guided by the value of a round.
    assert data.seen_by(["sft", "oreo-round2"]) == {"shown", "offline", "oreo 2"}
