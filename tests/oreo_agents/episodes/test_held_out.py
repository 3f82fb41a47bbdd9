"""Which episodes are of held-out tasks: told by an environment, a name, a question, or a recorded split."""

import json
from pathlib import Path

import gymnasium as gym
import pytest

from oreo_agents.episodes.held_out import HeldOutTasks, find_held_out, require_learnable
from oreo_agents.episodes.tasks import EnvSettings
from oreo_agents.episodes.texts import text_episode
from oreo_algos import EpisodeBuffer

GSM8K, ARITHMETIC = "oreo/GSM8K-v0", "oreo/Arithmetic-v0"


def buffer_of(*episodes: tuple[str, str], env: str = GSM8K, **info) -> EpisodeBuffer:
    """Episodes of (task id, question)."""
    return EpisodeBuffer(
        text_episode([{"role": "user", "content": asked}], ["a"], [1.0], task_id=task, env_id=env, info=info)
        for task, asked in episodes
    )


@pytest.fixture
def gsm8k(tmp_path: Path) -> HeldOutTasks:
    for split in ("train", "test"):
        rows = [{"question": f"Question {n} of {split}?", "answer": f"#### {n}"} for n in range(3)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return HeldOutTasks(EnvSettings(id=GSM8K, path=str(tmp_path)))


def test_names_and_questions_tell(gsm8k: HeldOutTasks):
    buffer = buffer_of(
        ("gsm8k/train/0", "Question 0 of train?"),
        ("gsm8k/test/1", "Question 1 of test?"),
        ("gsm8k/test/1", "Question 1 of test?"),
        ("gsm8k/imported/f00", " Question 2 of test?\n"),
        ("gsm8k/imported/ba5", "Question 9 of test?"),
        ("gsm8k/test/7", "of other data"),
    )
    found = gsm8k.find("given", buffer)
    assert found is not None and (found.episodes, found.tasks, found.example) == (4, 3, "gsm8k/test/1")
    assert found.splits == {"test": 4}
    assert gsm8k.find("given", buffer[[0, 4]]) is None


def test_without_its_data_names_tell(tmp_path: Path):
    tasks = HeldOutTasks(EnvSettings(id=GSM8K, path=str(tmp_path)))
    found = tasks.find("given", buffer_of(("gsm8k/test/1", "q"), ("gsm8k/imported/1", "q")))
    assert found is not None and found.episodes == 1


@pytest.mark.parametrize(
    ("env", "task", "split"),
    [
        (ARITHMETIC, "arithmetic/test/12345", "test"),
        (ARITHMETIC, "arithmetic/dev/1", None),
        (ARITHMETIC, "arithmetic/train/1", None),
        ("oreo/MATH-v0", "math/math500/3", "math500"),
        ("oreo/ALFWorld-v0", "valid_unseen/look_at_obj-A/trial_1", "valid_unseen"),
        ("oreo/ALFWorld-v0", "train/look_at_obj-A/test", None),
        ("oreo/Chat-v0", "chat/test/1", None),
    ],
)
def test_every_environment_says_what_is_held_out(env: str, task: str, split: str | None, monkeypatch):
    monkeypatch.delenv("OREO_DATA", raising=False)
    found = HeldOutTasks(EnvSettings(id=env)).find("given", buffer_of((task, "q"), env=env))
    assert (None if found is None else list(found.splits)) == (None if split is None else [split])


def test_a_recorded_split_tells_where_a_name_does_not():
    tasks = HeldOutTasks(EnvSettings(id=ARITHMETIC))
    assert tasks.find("given", buffer_of(("own name", "q"), env=ARITHMETIC, split="test")) is not None
    assert tasks.find("given", buffer_of(("own name", "q"), env=ARITHMETIC, split="dev")) is None


class Plain(gym.Env):
    """Somebody else's environment, which says by itself what is held out."""

    held_out_splits = ("validation",)
    observation_space = action_space = gym.spaces.Text(99)

    def __init__(self, split: str = "train") -> None:
        """Say which splits there are."""
        self.splits = ("train", "validation")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return "q", {}

    def step(self, action):
        return "", 0.0, True, False, {}


def test_an_environment_of_somebody_else_is_asked_too():
    gym.register("test/HeldOut-v0", entry_point=Plain)
    try:
        found = find_held_out("given", buffer_of(("x/validation/3", "q"), ("x/test/3", "q"), env="test/HeldOut-v0"))
    finally:
        del gym.registry["test/HeldOut-v0"]
    assert [one.splits for one in found] == [{"validation": 1}]


def test_what_is_found_is_refused_in_a_sentence_or_said(gsm8k: HeldOutTasks, caplog):
    found = gsm8k.find("mine", buffer_of(("gsm8k/test/1", "q")))
    told = "data=mine holds 1 episodes of 1 tasks of oreo/GSM8K-v0 that are held out .*split test.*such as gsm8k/test/1"
    with pytest.raises(ValueError, match=f"{told}.*Leave them out.*allow_held_out=true"):
        require_learnable(found, allowed=False, switch="allow_held_out=true", names="data=")
    assert require_learnable(found, allowed=True, switch="allow_held_out=true") is found
    assert "they are learned from, and only other tasks measure anything" in caplog.text
    assert require_learnable(None, allowed=False, switch="") is None
