"""Text data sets of Minari become episodes: ours as they were, others' by what their arrays say."""

import json
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, Text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layout_rows import ask, say
from test_export import episodes
from test_layouts_of_episodes import steps_of

from oreo_agents.formats.importing import CHAT, ImportSettings, import_episodes
from oreo_agents.formats.reading import files_of
from oreo_agents.runs.data import main
from oreo_algos import Episode, EpisodeBuffer

minari = pytest.importorskip("minari", reason='needs pip install "oreo-suite[minari]"')

from minari.data_collector.episode_buffer import EpisodeBuffer as Arrays  # noqa: E402

from oreo_envs.minari import export  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*will be ignored.*|.*code_permalink.*|.*author.*|.*algorithm_name.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:minari.*"),
    # Minari lets go of temporary folders without closing them.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def back(folder: Path, **how) -> EpisodeBuffer:
    return import_episodes(files_of(str(folder)), ImportSettings(**how))[0]


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
@given(found=st.lists(episodes(), min_size=1, max_size=3), number=st.integers(0, 1 << 60))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_episodes_come_back_as_they_were(data_format: str, found: list[Episode], number: int, home: Path):
    name = f"n{number}-{len([*home.glob('*')]) if home.exists() else 0}-v0"
    export(found, name, data_format=data_format)
    again = back(home / name)
    assert again.content_hash == EpisodeBuffer(found).content_hash
    assert all(one.equals(other) for one, other in zip(found, again, strict=True))


def make(home: Path, *, observation_space=None, action_space=None, observations=None, actions=None, **arrays) -> Path:
    """Write somebody's data set of one episode, and return its folder."""
    text = Text(max_length=99)
    minari.create_dataset_from_buffers(
        "games/rooms-v0",
        [
            Arrays(
                id=0,
                observations=observations or ["a room", "a desk", "a mug"],
                actions=actions or ["look", "take"],
                **{"rewards": [0.0, 1.0], "terminations": [False, True], "truncations": [False, False]} | arrays,
            )
        ],
        observation_space=observation_space or text,
        action_space=action_space or text,
    )
    return home / "games" / "rooms-v0"


def test_others_texts_are_turns_and_infos_say_success(home: Path, tmp_path: Path, monkeypatch, capsys):
    infos = {"success": np.array([False, False, True]), "depth": {"a": np.zeros(3)}}
    folder = make(home, rewards=[0.5, 0.25], infos=infos)
    monkeypatch.chdir(tmp_path)
    main(["import", str(folder), "--out", "b"])
    assert capsys.readouterr().out.startswith("b: 1 episodes of oreo/Chat-v0, read as minari")
    [episode] = EpisodeBuffer.load("b")
    assert episode.messages == [ask("a room"), say("look"), ask("a desk"), say("take"), ask("a mug")]
    assert steps_of(episode) == ["look", "take"] and episode.rewards.tolist() == [0.5, 0.25]
    assert episode.success and episode.terminated and not episode.truncated and episode.env_id == CHAT
    assert episode.task_id.startswith("chat/imported/")


def test_without_a_verdict_the_return_is_judged(home: Path):
    folder = make(home, rewards=[0.5, 0.25])
    with pytest.raises(ValueError, match=r"rooms-v0/data, episode 0: the label 0\.75 .*--success-threshold"):
        back(folder)
    assert back(folder / "data", success_threshold=0.7)[0].success
    (home / "games" / "namespace_metadata.json").unlink()
    assert back(home, success_threshold=0.7)[0].success, "the only data set there"


@pytest.mark.parametrize(
    ("spaces", "told"),
    [
        (
            {"observation_space": Box(0, 1, (2,)), "observations": [np.zeros(2, np.float32)] * 3},
            "observation_space is Box",
        ),
        ({"action_space": Discrete(2), "actions": [0, 1]}, "its action_space is Discrete, and an episode here is text"),
    ],
)
def test_other_spaces_are_refused(spaces, told: str, home: Path):
    folder = make(home, **spaces)
    with pytest.raises(ValueError, match=rf"rooms-v0/data: .*{told}"):
        back(folder)


def test_spaces_that_are_not_said_are_not_made_from_an_environment_that_is_named(home: Path):
    folder = make(home)
    metadata = folder / "data" / "metadata.json"
    said = json.loads(metadata.read_text())
    del said["observation_space"]
    metadata.write_text(json.dumps(said | {"env_spec": '{"id": "x-v0", "entry_point": "nowhere:Run"}'}))
    with pytest.raises(ValueError, match="its observation_space is not said"):
        back(folder)


def test_a_damaged_data_set_is_told(home: Path):
    folder = make(home)
    (folder / "data" / "main_data.hdf5").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"rooms-v0/data, episode 0: not a whole data set of Minari \(OSError"):
        back(folder)


def test_an_exported_data_set_is_there_whole_or_not_at_all(home: Path, tmp_path: Path, monkeypatch, capsys):
    buffer = tmp_path / "buffer"
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    nothing = np.zeros(0, np.int32)
    spans, rewards = np.array([[1, 0, 1]], np.int32), np.ones(1, np.float32)
    told = {"task_id": "t", "env_id": CHAT, "messages": messages, "success": True}
    EpisodeBuffer(
        [
            Episode(
                tokens=nothing,
                step_id=nothing,
                rewards=rewards,
                action_spans=spans,
                terminated=True,
                truncated=False,
                **told,
            )
        ]
    ).save(buffer)
    ask = ["export", str(buffer), "--format", "minari", "--out"]
    for name, message in (("plain", "--out plain: data sets of Minari are called NAME-v0"), ("../x-v0", "Malformed")):
        with pytest.raises(ValueError, match=message):
            main([*ask, name])
    with monkeypatch.context() as broken:
        broken.setattr("minari.MinariDataset.__init__", Mock(side_effect=OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space left"):
            main([*ask, "mine/x-v0"])
    assert [path for path in home.rglob("*") if path.is_file() or "x-v0" in path.name] == []
    main([*ask, "mine/x-v0"])
    assert minari.load_dataset("mine/x-v0").total_episodes == 1
    assert sorted(path.name for path in (home / "mine").iterdir()) == ["x-v0"]
    with pytest.raises(ValueError, match="is there already; delete it, or give another --out"):
        main([*ask, "mine/x-v0"])
