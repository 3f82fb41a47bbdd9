"""The authors' data sets, and labelled outputs of real models. Skipped where OREO_DATA has none."""

import json

import gymnasium as gym
import pytest

import oreo_envs  # noqa: F401 (registers the ids)
from oreo_envs.grading import extract_answer, grade, is_correct
from oreo_envs.grading.notation import clean, squash

SIZES = {
    ("oreo/GSM8K-v0", "train"): 7_473,
    ("oreo/GSM8K-v0", "test"): 1_319,
    ("oreo/MATH-v0", "train"): 7_500,
    ("oreo/MATH-v0", "test"): 5_000,
    ("oreo/MATH-v0", "math500"): 500,
}


# Solutions that box several answers, joined by "and", "or" or a comma, of which the reference keeps the last.
INCOMPLETE_REFERENCES = {
    ("oreo/MATH-v0", "train"): [334, 504, 3694, 3997, 4253, 6780, 6816, 6843, 7414],
    ("oreo/MATH-v0", "test"): [414, 2549, 2703, 2716, 2912, 4559, 4860],
}


@pytest.mark.parametrize(("env_id", "split"), SIZES)
def test_every_reference_solution_is_judged_right(real_data, env_id, split):
    problems = gym.make(env_id, split=split).unwrapped.problems
    assert len(problems) == SIZES[env_id, split]
    wrong = [index for index, p in enumerate(problems) if not is_correct(p.solution, p.answer)]
    assert wrong == INCOMPLETE_REFERENCES.get((env_id, split), [])
    for index in wrong:
        stated = extract_answer(problems[index].solution)
        assert stated.endswith(problems[index].answer) and is_correct(f"\\boxed{{{stated}}}", stated)


def test_a_reference_is_right_for_another_problem_by_equality_only(real_data):
    """Each answer of the test split against the next problem's reference."""
    references = [p.answer for p in gym.make("oreo/MATH-v0", split="test").unwrapped.problems]
    agreed = [
        (answer, reference)
        for answer, reference in zip(references[1:], references, strict=False)
        if is_correct(f"\\boxed{{{answer}}}", reference)
    ]
    unequal = [pair for pair in agreed if squash(clean(pair[0])) != squash(clean(pair[1]))]
    assert len(agreed) > 30 and unequal == [("7", "7\\%")]  # a bare number equals its percentage


def test_the_two_repaired_rows_are_where_the_data_says(real_data):
    problems = gym.make("oreo/MATH-v0", split="train").unwrapped.problems
    assert (problems[5341].answer, problems[5343].answer) == ("0", "0")


@pytest.mark.parametrize("env_id", ["oreo/GSM8K-v0", "oreo/MATH-v0"])
def test_demonstrations_are_right_and_end_where_the_episode_ends(real_data, env_id):
    env = gym.make(env_id, split="train").unwrapped
    for index in range(0, env.num_tasks, 25):
        shown = env.demonstration(index)
        assert shown.rewards[-1] == 1.0 and "".join(shown.steps) == shown.messages[-1]["content"]
        env.reset(options={"index": index})
        assert [env.step(step)[2] for step in shown.steps].index(True) == len(shown.steps) - 1


@pytest.mark.parametrize(("name", "rows"), [("gsm8k_openai", 2_704), ("gsm8k_tora", 1_342), ("math_qwen", 416)])
def test_labels_of_real_responses_are_met(model_solutions, name, rows):
    lines = (model_solutions / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    cases = [json.loads(line) for line in lines]
    assert len(cases) == rows
    agreed = sum(grade(c["response"], c["reference"]).correct == c["correct"] for c in cases)
    assert agreed == rows
