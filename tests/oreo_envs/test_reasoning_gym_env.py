"""Tasks of reasoning-gym: which are refused, that a full score alone is paid, the same tasks everywhere."""

import random
import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import oreo_envs  # noqa: F401 (registers the ids)
from oreo_envs import reasoning_gym_tasks
from oreo_envs.reasoning_gym_tasks import FLAWS, NUM_TASKS

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reasoning_gym.md"


def test_the_page_names_every_task_that_is_refused_and_no_other():
    refused = DOCS.read_text(encoding="utf-8").partition("## Refused")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", refused, re.MULTILINE)) == set(FLAWS)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "reasoning_gym", None)
    with pytest.raises(ImportError, match=r'pip install "oreo-suite\[reasoning-gym\]"'):
        gym.make("oreo/ReasoningGym-v0")


@pytest.fixture
def reasoning_gym():
    return pytest.importorskip("reasoning_gym", reason="the extra [reasoning-gym] is not installed")


@pytest.fixture
def make(reasoning_gym):
    return lambda **arguments: gym.make("oreo/ReasoningGym-v0", **arguments).unwrapped


def answered(env, answer, index=0):
    """The end of an episode in which ``answer`` is given between tags."""
    env.reset(options={"index": index})
    ended = env.step(f"Let me see.\n<answer>\n{answer}\n</answer>")
    return ended if ended[2] else env.step("")


def reference(env, index):
    return env._make_item(index).reference


@pytest.mark.parametrize("task", ["chain_sum", "mini_sudoku", "tower_of_hanoi", "ab", "zebra_puzzles", "maze"])
def test_the_reference_is_paid_and_nothing_less(make, task):
    env = make(task=task)
    for index in range(3):
        right = reference(env, index)
        _, reward, terminated, _, info = answered(env, right, index)
        assert (reward, terminated, info["success"], info["score"], info["grade_reason"]) == (
            1.0,
            True,
            True,
            1.0,
            "exact",
        )
        assert info["answer"] == right.strip()
        for wrong in (f"{right} or not", "nothing", right[: len(right) // 2] or "x"):
            _, reward, _, _, info = answered(env, wrong, index)
            assert (reward, info["success"], info["grade_reason"]) == (0.0, False, "different") and info["score"] < 1.0


def test_a_partial_score_is_in_info_and_not_paid(make):
    env = make(task="chain_sum")
    right = reference(env, 0)
    env.reset(options={"index": 0})
    _, reward, _, _, info = env.step(f"#### {right}1")
    assert reward == 0.0 and not info["success"] and 0.0 < info["score"] < 1.0


def test_no_answer_has_no_score(make):
    env = make()
    env.reset(options={"index": 0})
    assert env.step("")[4]["score"] == 0.0


def test_text_that_a_scorer_cannot_read_is_wrong(make):
    env = make(task="prime_factorization")
    with pytest.raises(ValueError):
        import reasoning_gym

        data = reasoning_gym.create_dataset("prime_factorization", seed=1, size=3)
        data.score_answer("I do not know", data[0])
    assert answered(env, "I do not know")[4]["score"] == 0.0


@pytest.mark.parametrize("task", sorted(FLAWS))
def test_tasks_with_flaws_are_refused_unless_they_are_asked_for(make, task):
    with pytest.raises(ValueError, match=f"task '{task}' is refused: .*allow_flawed=True"):
        make(task=task)


# What the page says of scorers, each with an answer that is not right; none is paid where the package has mended it.
WRONG = {
    "coin_flip": lambda right, entry: "0",
    "complex_arithmetic": lambda right, entry: "nan",
    "fraction_simplification": lambda right, entry: f"{right} or 1/2",
    "game_of_life_halting": lambda right, entry: "I do not know",
    "gsm_symbolic": lambda right, entry: f"-{right}",
    "knights_knaves": lambda right, entry: f"It is not so that {right}",
    "letter_jumble": lambda right, entry: f"{right} and more",
    "number_sorting": lambda right, entry: re.sub(r"-?\d[\d.]*", lambda number: str(float(number[0]) * 1.005), right),
    "propositional_logic": lambda right, entry: entry["metadata"]["premises"][0],
    "puzzle24": lambda right, entry: "6*4*1*1",
    "simple_integration": lambda right, entry: (
        f"Integral({entry['metadata']['integrand']}, {entry['metadata']['variable']})"
    ),
    "time_intervals": lambda right, entry: f"-{right}",
}


@pytest.mark.parametrize("task", sorted(WRONG))
def test_what_is_said_of_scorers_is_so(reasoning_gym, task):
    from importlib.metadata import version

    if version("reasoning-gym") != "0.1.25":
        pytest.skip("the page is about reasoning-gym 0.1.25")
    data = reasoning_gym.create_dataset(task, seed=1_000_000, size=NUM_TASKS)
    entries = [data[index] for index in range(40)]
    assert any(data.score_answer(WRONG[task](str(e["answer"]), e), e) == 1.0 for e in entries)


@pytest.mark.parametrize("task", ["chain_sum", "tower_of_hanoi"])
def test_no_question_is_in_two_splits_even_where_there_are_few(make, task):
    texts = {}
    for split in ("train", "dev", "test"):
        texts[split] = {make(split=split, task=task).reset(options={"index": index})[0] for index in range(100)}
    assert sum(map(len, texts.values())) == len(set.union(*texts.values()))


def test_a_task_of_six_questions_fills_the_splits_it_can(make):
    config = {"min_disks": 3, "max_disks": 3, "min_pegs": 3, "max_pegs": 3}
    failed = 0
    for split in ("train", "dev", "test"):
        env = make(task="tower_of_hanoi", config=config, split=split)
        try:
            assert len({env.reset(options={"index": index})[0] for index in range(20)}) <= 6
        except ValueError as error:
            assert "too few questions" in str(error)
            failed += 1
    assert failed < 3


def test_an_index_is_one_task_whatever_was_asked_before(make):
    env = make()
    last = env.reset(options={"index": NUM_TASKS - 1})[0]
    env.reset(options={"index": 0})
    assert env.reset(options={"index": NUM_TASKS - 1})[0] == last
    with pytest.raises(ValueError, match="out of range"):
        env.reset(options={"index": NUM_TASKS})


def test_the_global_generators_are_left_alone(make):
    random.seed(5)
    np.random.seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist()
    make(task="pool_matrix").reset(options={"index": 0})
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_task_ids_tell_settings_apart(make):
    task_id = make().reset(options={"index": 4})[1]["task_id"]
    assert task_id.startswith("reasoning_gym/chain_sum-") and task_id.endswith("/train/4")
    with pytest.raises(ValueError, match="unknown task_id"):
        make(config={"min_terms": 3}).reset(options={"task_id": task_id})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "sudokus"}, r"unknown task 'sudokus'; did you mean 'sudoku'\?"),
        ({"task": "composite"}, "unknown task 'composite'"),
        (
            {"config": {"min_term": 3}},
            "unknown setting of task .* in config 'min_term'; did you mean 'min_terms'",
        ),
        ({"config": {3: 3}}, "unknown setting of task 'chain_sum' in config 3; known: min_terms, max_terms"),
        ({"config": {"min_terms": {3}}}, r"config must be numbers, texts, lists and mappings, got \{'min_terms': \{3"),
        ({"config": {"min_terms": 30}}, "makes no task 'chain_sum' of .*max_terms must be >= min_terms"),
        ({"config": "min_terms=3"}, "config must be settings of the task by name, got 'min_terms=3'"),
        ({"allow_flawed": "no"}, "allow_flawed must be True or False, got 'no'"),
        ({"config": {"seed": 3}}, "config: 'seed' is the split's, which has .*; leave it out"),
        ({"config": {"size": 3}}, "config: 'size' is the split's"),
    ],
)
def test_a_wrong_argument_is_named(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_there_are_no_demonstrations_and_it_is_said_why(make):
    with pytest.raises(NotImplementedError, match="knows answers, not how they are found"):
        make().demonstration(0)


def test_what_a_scorer_cannot_read_is_said(make, monkeypatch):
    env = make(task="chain_sum")
    dataset = type(reasoning_gym_tasks._entry(env.task, env.config, env.split, 0)[0])

    def fails(*_):
        raise IndexError("no such word")

    monkeypatch.setattr(dataset, "score_answer", fails)
    _, reward, *_, info = answered(env, "7")
    assert (reward, info["score"], info["grade_reason"]) == (0.0, 0.0, "unparsable")
