"""Which buffers a policy of a run learns from, which ones it has learned from, and what rounds are called."""

from pathlib import Path
from typing import Any

import pytest

from oreo_agents.episodes.collect import CollectSettings, SftSettings
from oreo_agents.episodes.tasks import EnvSettings
from oreo_agents.episodes.texts import text_episode
from oreo_agents.evaluation.round_names import round_name, split_round
from oreo_agents.runs.layout import Layout
from oreo_agents.runs.loading import Loader
from oreo_agents.runs.run_data import RunData
from oreo_agents.runs.settings import IterationSettings, RunSettings
from oreo_algos import EpisodeBuffer
from oreo_algos.algos import Dpo, MoreSft, Oreo


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


@pytest.mark.parametrize("other", ["oreo", "sft-more"])
def test_more_supervised_fine_tuning_has_seen_demonstrations_and_no_offline_episode(other: str, tmp_path: Path):
    (tmp_path / "test.jsonl").write_text('{"question": "q", "answer": "1\\n#### 1"}\n', encoding="utf-8")
    layout = Layout(tmp_path / "run", tmp_path / "run")
    save(layout.demonstrations, "shown")
    save(layout.offline, "offline")
    for number in (1, 2):
        save(layout.episodes("sft-more", number), f"more {number}")
    settings = RunSettings(
        env=EnvSettings(id="oreo/GSM8K-v0", path=str(tmp_path)),
        algorithms={"oreo": Oreo(), "sft-more": MoreSft()},
    )
    data = RunData(settings, layout, Loader(settings.policy, settings.value))
    expected = {
        "oreo": {"shown", "offline"},
        "sft-more": {"shown", "more 1"},
        "sft-more-round2": {"shown", "more 1", "more 2"},
    }
    assert data.seen_by([other]) == expected[other]
    assert data.seen_by([f"{other}-round2"]) == expected.get(f"{other}-round2", expected[other])


# --- demonstrations


def run_data(folder: Path, *, keep_data: bool = True, more: int = 2, **changes: Any) -> RunData:
    settings = RunSettings(
        env=EnvSettings(id="oreo/Arithmetic-v0", options={"verbs_per_problem": [1, 2]}),
        algorithms={"oreo": Oreo(), "sft-more": MoreSft(samples=more)},
        iteration=IterationSettings(rounds=2, keep_data=keep_data),
        seed=5,
        **({"sft": SftSettings(demonstrations=4)} | changes),
    )
    return RunData(settings, Layout(folder, folder), Loader(settings.policy, settings.value))


def seeds(buffer: EpisodeBuffer) -> set[int]:
    return {episode.info["seed"] for episode in buffer}


def test_every_sample_of_a_demonstrated_task_has_a_seed_of_its_own_and_the_first_is_that_of_the_run(
    tmp_path: Path, checkpoint
):
    many, one = (
        run_data(tmp_path / str(samples), sft=SftSettings(demonstrations=4, samples=samples))
        .demonstrations(checkpoint("llama"))
        .buffer
        for samples in (3, 1)
    )
    assert len(many) == 12 and [len(episodes) for episodes in many.by_task().values()] == [3] * 4
    assert seeds(one) == {5} < seeds(many) and len(seeds(many)) == 3
    assert len({str(episode.messages) for episode in many}) > 4
    assert [e.messages for e in many if e.info["seed"] == 5] == [e.messages for e in one]


def test_demonstrations_are_of_the_split_that_is_named(tmp_path: Path, checkpoint):
    for split in ("train", "dev"):
        data = run_data(tmp_path / split, sft=SftSettings(split=split, demonstrations=4))
        tasks = data.demonstrations(checkpoint("llama")).buffer.by_task()
        assert len(tasks) == 4 and all(f"/{split}/" in task for task in tasks)
        more = data.collected("sft-more", 1, checkpoint("llama"))[0].buffer
        assert set(more.by_task()) == set(tasks)
    with pytest.raises(ValueError, match="split 'test' is held out: nothing may learn from it"):
        run_data(tmp_path, sft=SftSettings(split="test", demonstrations=4)).demonstrations(checkpoint("llama"))


def test_more_supervised_fine_tuning_gets_new_demonstrations_of_the_same_tasks_in_each_round(
    tmp_path: Path, checkpoint
):
    data, start = run_data(tmp_path), checkpoint("llama")
    shown = data.demonstrations(start).buffer
    first, second = data.learned_in("sft-more", 2, start)
    assert (first.path, second.path) == ("sft-more/data/episodes", "sft-more-round2/data/episodes")
    for part in (first, second):
        assert set(part.buffer.by_task()) == set(shown.by_task()) and len(part.buffer) == 2 * len(shown)
        assert part.buffer.provenance["source"] == "demonstrations" and len(seeds(part.buffer)) == 2
    assert len(seeds(shown) | seeds(first.buffer) | seeds(second.buffer)) == 5
    again = run_data(tmp_path / "again").collected("sft-more", 1, start)[0].buffer
    assert again.content_hash == first.buffer.content_hash != second.buffer.content_hash
    [alone] = run_data(tmp_path, keep_data=False).learned_in("sft-more", 2, start)
    assert alone.record() == second.record()


def test_no_round_is_shown_a_demonstration_twice_however_many_there_are(tmp_path: Path, checkpoint):
    data = run_data(tmp_path, sft=SftSettings(demonstrations=1, samples=10), more=5)
    buffers = [data.demonstrations(checkpoint("llama"))]
    buffers += [part for number in (1, 2, 3) for part in data.collected("sft-more", number, checkpoint("llama"))]
    assert len(set.union(*(seeds(part.buffer) for part in buffers))) == 10 + 3 * 5


def test_more_supervised_fine_tuning_without_a_supervised_start_is_refused(tmp_path: Path, checkpoint):
    data = run_data(tmp_path, sft=SftSettings(demonstrations=0))
    with pytest.raises(ValueError, match=r"sft-more learns from new demonstrations .* sft.demonstrations=0 shows none"):
        data.collected("sft-more", 1, checkpoint("llama"))


def test_offline_demonstrations_are_of_the_train_split_whatever_the_start_was_shown(tmp_path: Path, checkpoint):
    data = run_data(
        tmp_path,
        sft=SftSettings(split="dev", demonstrations=4),
        collect=CollectSettings(source="demonstrations", tasks=3, samples=2),
    )
    [part] = data.collected("oreo", 1, checkpoint("llama"))
    tasks = part.buffer.by_task()
    assert [len(episodes) for episodes in tasks.values()] == [2] * 3 and all("/train/" in task for task in tasks)


@pytest.mark.parametrize(("samples", "message"), [(0, "must be at least 1, got 0"), (1.5, "must be a whole number")])
def test_an_impossible_number_of_samples_is_refused(samples: Any, message: str):
    with pytest.raises(ValueError, match=message):
        SftSettings(samples=samples)
