"""A collection in parts: cut into shards, written while it goes on, gone on with after a kill, with the same bytes."""

import itertools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forked import run
from tiny_models import make_model, make_tokenizer

from oreo_agents.episodes import collect as collect_module
from oreo_agents.episodes import parts
from oreo_agents.episodes.collect import CollectSettings, SftSettings
from oreo_agents.episodes.generate import Sampling
from oreo_agents.episodes.parts import Part, Shard, tasks_a_part
from oreo_agents.episodes.tasks import EnvSettings
from oreo_agents.runs.data import main as data
from oreo_agents.runs.layout import Layout
from oreo_agents.runs.loading import Loader
from oreo_agents.runs.run_data import RunData
from oreo_agents.runs.settings import IterationSettings, RunSettings
from oreo_algos import EpisodeBuffer, stopping
from oreo_algos.algos import Oreo

TASKS, SAMPLES, PART = 10, 3, 2
SHORT = Sampling(max_new_tokens=12, batch_size=4)


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("start")
    make_model("llama").save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return str(folder)


def run_data(folder: Path, **changes: Any) -> RunData:
    how: dict[str, Any] = {"tasks": TASKS, "samples": SAMPLES, "part_tasks": PART, "sampling": SHORT}
    seed = changes.pop("seed", 5)
    settings = RunSettings(
        env=EnvSettings(id="oreo/Arithmetic-v0", options={"verbs_per_problem": [1, 2]}),
        algorithms={"oreo": Oreo()},
        iteration=IterationSettings(rounds=2),
        sft=SftSettings(demonstrations=0),
        collect=CollectSettings(**(how | changes)),
        seed=seed,
    )
    return RunData(settings, Layout(folder, folder), Loader(settings.policy, settings.value))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.startswith("mapped-")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, start: str) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    [part] = run_data(folder).offline(start)
    assert len(part.buffer) == TASKS * SAMPLES and {entry.name for entry in (folder / "data").iterdir()} == {"episodes"}
    return folder / "data" / "episodes"


def test_every_cut_gives_the_same_episodes_to_the_byte(tmp_path: Path, start: str, whole: Path, capsys):
    made: dict[str, str] = {}
    for cut in ("1/2", "2/2", "1/3", "2/3", "3/3"):
        made[cut] = str(run_data(tmp_path).shard(start, Shard.parse(cut)).buffer.folder)
    assert Path(made["2/3"]).name == "episodes-2-of-3"
    capsys.readouterr()
    for shards in (["2/2", "1/2"], ["3/3", "1/3", "2/3"]):
        data(["merge", *(made[cut] for cut in shards), "--out", str(tmp_path / "joined")])
        assert contents(tmp_path / "joined") == contents(whole)
    assert "30 episodes of 10 tasks" in capsys.readouterr().out
    # Without a merge, too, they are the episodes of the whole.
    alone = [EpisodeBuffer.load(made[cut]) for cut in ("1/2", "2/2")]
    assert EpisodeBuffer.concatenate(alone).content_hash == EpisodeBuffer.load(whole).content_hash


def test_another_batch_size_says_the_same(tmp_path: Path, start: str, whole: Path):
    other = run_data(tmp_path, sampling=Sampling(max_new_tokens=12, batch_size=7), part_tasks=3).offline(start)[0]
    for one, two in zip(EpisodeBuffer.load(whole), other.buffer, strict=True):
        assert one.tokens.tolist() == two.tokens.tolist() and one.messages == two.messages
        assert one.behavior_logprobs == pytest.approx(two.behavior_logprobs, abs=1e-4)


def test_what_is_kept_of_a_task_hangs_on_the_task_alone(tmp_path: Path, start: str):
    kept = run_data(tmp_path / "whole", keep_per_outcome=1).offline(start)[0].buffer
    assert len(kept) == TASKS and kept.provenance["collected"] == TASKS * SAMPLES
    shards = [run_data(tmp_path, keep_per_outcome=1).shard(start, Shard(k, 2)).buffer for k in (1, 2)]
    assert EpisodeBuffer.concatenate(shards).content_hash == kept.content_hash
    larger = run_data(tmp_path / "other", keep_per_outcome=1, part_tasks=5).offline(start)[0].buffer
    assert [e.messages for e in larger] == [e.messages for e in kept]


def test_a_task_that_is_drawn_twice_has_more_samples(start: str):
    load = Loader(run_data(Path()).settings.policy, run_data(Path()).settings.value)
    found = collect_module.collect(
        run_data(Path()).settings.env_maker("train"),
        load.policy(start),
        load.prompt_format(start),
        [4, 2, 4],
        CollectSettings(samples=2, sampling=Sampling(max_new_tokens=24)),
        seed=0,
        selection_seed=0,
        provenance={},
    )
    assert len({str(episode.messages) for episode in found}) == 6


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        (["1/3", "3/3"], "of this collection shard=2/3 is missing"),
        (["1/3"], "of this collection shard=2/3, shard=3/3 is missing"),
        (["1/2", "1/3", "2/3", "3/3"], r"1-of-2 is shard 1/2 and .*: what both hold would be there twice"),
        (["1/3", "seed"], r"different collections: seed is 5 and 6"),
        (["1/3", "samples"], "different collections: other settings of collect or policy"),
        (["1/3", "whole"], r"episodes is no shard, and .*1-of-3 is"),
        (["1/3", "1/3"], "episodes-1-of-3 is named twice"),
    ],
)
def test_shards_that_are_not_a_whole_are_refused(
    shards: list[str], message: str, tmp_path: Path, start: str, shard_folders: dict[str, Path]
):
    with pytest.raises(ValueError, match=message):
        data(["merge", *(str(shard_folders[name]) for name in shards), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def shard_folders(tmp_path_factory, start: str, whole: Path) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("shards")
    few: dict[str, Any] = {"tasks": 6}
    found = {f"{k}/{n}": run_data(base, **few).shard(start, Shard(k, n)) for k, n in ((1, 2), (1, 3), (2, 3), (3, 3))}
    found["seed"] = run_data(base / "seed", seed=6, **few).shard(start, Shard(2, 3))
    found["samples"] = run_data(base / "samples", samples=2, **few).shard(start, Shard(2, 3))
    return {name: Path(str(part.buffer.folder)) for name, part in found.items()} | {"whole": whole}


@pytest.mark.parametrize("text", ["0/3", "4/3", "2", "a/b", "1/0", "-1/3", "1/3/5", True])
def test_a_shard_that_is_none_is_refused(text: object):
    with pytest.raises(ValueError, match="give NUMBER/ALL, such as 2/8, the second of eight; numbers go from 1 to ALL"):
        Shard.parse(text)


def test_more_shards_than_parts_are_refused_before_anything_is_made(tmp_path: Path):
    with pytest.raises(ValueError, match=r"5 parts of up to 2 tasks, 10 tasks in all, .* give at most 5 shards,"):
        run_data(tmp_path).require_shard(Shard(1, 6))
    with pytest.raises(ValueError, match=r"is 1 part of up to 1 task, 1 task in all, .* give at most 1 shard,"):
        run_data(tmp_path, tasks=1).require_shard(Shard(1, 2))
    with pytest.raises(ValueError, match="only samples of a policy are collected in shards"):
        run_data(tmp_path, source="demonstrations").require_shard(Shard(1, 2))


@pytest.mark.parametrize(
    ("samples", "batch_size", "tasks"), [(16, 256, 16), (10, 64, 32), (1, 64, 256), (100, 64, 7), (7, 8, 40)]
)
def test_parts_are_whole_tasks_and_full_batches(samples: int, batch_size: int, tasks: int):
    assert tasks_a_part(samples, batch_size) == tasks and -tasks * samples % batch_size <= 4


# Killed and gone on with.


def test_a_killed_collection_goes_on_after_the_last_part(tmp_path: Path, start: str, whole: Path, monkeypatch):
    """A process that is killed (SIGKILL) as its third part is written."""
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from test_shards import Part, run_data\n"
        "save, done = Part.save, []\n"
        "def dying(part, folder):\n"
        "    if len(done) == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    save(part, folder); done.append(folder)\n"
        "Part.save = dying\n"
        "run_data(Path(sys.argv[1])).offline(sys.argv[2])\n"
    )
    paths = [str(Path(__file__).parent), str(Path(__file__).parent.parent), *sys.path]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(paths))
    killed = run([str(script), str(tmp_path), start], tmp_path, environment)
    assert killed.returncode == -9
    assert not (tmp_path / "data" / "episodes").exists()
    asked = watch_rows(monkeypatch)
    run_data(tmp_path).offline(start)
    assert asked == [(TASKS - 2 * PART) * SAMPLES]
    assert contents(tmp_path / "data" / "episodes") == contents(whole)
    assert {entry.name for entry in (tmp_path / "data").iterdir()} == {"episodes"}


@pytest.mark.usefixtures("signals_restored")
def test_a_signal_ends_a_collection_when_its_part_is_done(tmp_path: Path, start: str, whole, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(stopping.Interrupted) as raised, stopping.listening():
        rollout_rows(patch, lambda row: signal.raise_signal(signal.SIGTERM) if row == PART * SAMPLES + 1 else None)
        run_data(tmp_path).offline(start)
    assert (raised.value.number, raised.value.kept) == (signal.SIGTERM, "2 of 5 parts are collected")
    asked = watch_rows(monkeypatch)
    run_data(tmp_path).offline(start)
    assert asked == [(TASKS - 2 * PART) * SAMPLES]
    assert contents(tmp_path / "data" / "episodes") == contents(whole)


def rollout_rows(monkeypatch, happens: Callable[[int], None]) -> None:
    """Have something happen at the end of a row, by its number."""
    add, count = collect_module._Gathering.add, itertools.count(1)
    monkeypatch.setattr(collect_module._Gathering, "add", lambda *rest: (happens(next(count)), add(*rest)))


def watch_rows(monkeypatch) -> list[int]:
    """How many rows each rollout from now on is asked for."""
    asked: list[int] = []
    rollout = collect_module.rollout

    def watched(make_env, policy, prompt_format, indices, *rest, **options):
        asked.append(len(indices))
        return rollout(make_env, policy, prompt_format, indices, *rest, **options)

    monkeypatch.setattr(collect_module, "rollout", watched)
    return asked


class StoppedError(Exception):
    """Stands for a kill."""


def stop_after(count: int, monkeypatch) -> None:
    save = Part.save

    def saving(part: Part, folder: Path) -> None:
        if len(list(folder.parent.glob("tasks-*"))) == count:
            raise StoppedError
        save(part, folder)

    monkeypatch.setattr(Part, "save", saving)


@pytest.mark.parametrize("shard", [None, Shard(2, 2)])
def test_rounds_and_shards_go_on_too(shard: Shard | None, tmp_path: Path, start: str, monkeypatch):
    (tmp_path / "oreo").mkdir()
    (tmp_path / "oreo" / "policy").symlink_to(start)
    paths = {"unbroken": tmp_path / "unbroken", "broken": tmp_path}
    (paths["unbroken"] / "oreo").mkdir(parents=True)
    (paths["unbroken"] / "oreo" / "policy").symlink_to(start)

    def made(name: str) -> Path:
        made = run_data(paths[name])
        [part] = made.collected("oreo", 2, start) if shard is None else [made.shard(start, shard)]
        return Path(str(part.buffer.folder or paths[name] / part.path))

    expected = contents(made("unbroken"))
    with monkeypatch.context() as patch:
        stop_after(1, patch)
        with pytest.raises(StoppedError):
            made("broken")
    asked = watch_rows(monkeypatch)
    assert contents(made("broken")) == expected
    assert asked == [(TASKS if shard is None else 6) * SAMPLES - PART * SAMPLES]


def test_what_other_settings_left_is_not_gone_on_with(tmp_path: Path, start: str, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        with pytest.raises(StoppedError):
            run_data(tmp_path).offline(start)
    asked = watch_rows(monkeypatch)
    run_data(tmp_path, seed=6).offline(start)
    assert asked == [TASKS * SAMPLES]
    assert {entry.name for entry in (tmp_path / "data").iterdir()} == {"episodes"}


def test_a_part_of_which_nothing_could_begin_is_counted(tmp_path: Path):
    part = Part(EpisodeBuffer(()), parts.Tally(prompts_too_long=4))
    part.save(tmp_path / "part")
    found = Part.load(tmp_path / "part")
    assert len(found.episodes) == 0 and found.tally == part.tally
