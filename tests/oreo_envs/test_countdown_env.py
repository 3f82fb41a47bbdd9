"""Countdown: which tasks there are, which expressions are paid, which steps are right."""

import re
from fractions import Fraction
from itertools import combinations_with_replacement

import gymnasium as gym
import pytest

import oreo_envs  # noqa: F401 (registers the ids)
from oreo_envs.countdown import Rules, Task, line_rightness, make_task
from oreo_envs.expressions import _values, follow, last_expression, reachable, read_expression, right_expression
from oreo_envs.splits import SPLITS

N = 300
TASK = Task((75, 4, 25), 200, use_all=True)
LOOSE = Task((75, 4, 25), 100, use_all=False)
FIRST_QUESTION = "Make 49 of the numbers 14, 98 and 35, each exactly once."
FIRST_SOLUTION = "98 - 35 = 63 (left: 14, 63)\n63 * 14 = 882 (left: 882)\n#### (98 - 35) * 14"


def make(**arguments):
    return gym.make("oreo/Countdown-v0", **arguments).unwrapped


def play(response, task=TASK, **arguments):
    """The last step of an episode in which ``task`` is asked."""
    env = make(use_all=task.use_all, **arguments)
    env.task = lambda index: task
    env.reset(options={"index": 0})
    return env.step(response)


def numbers(*values):
    return tuple(sorted(map(Fraction, values)))


def test_the_first_task_and_demonstration_never_change():
    """Pins the random streams: if this fails, every published number of the environment moves."""
    shown = make(mistakes=0.5).demonstration(0)
    assert shown.messages[-2]["content"] == FIRST_QUESTION
    assert shown.messages[-1]["content"] == FIRST_SOLUTION


def test_no_task_is_in_two_splits_whatever_the_order_of_its_numbers():
    few = Rules(count_range=(2, 2), number_range=(1, 6), target_range=(1, 36))
    for rules in (Rules(), few):
        tasks = [
            {(tuple(sorted(t.numbers)), t.target) for i in range(N) for t in [make_task(rules, s, i)]} for s in SPLITS
        ]
        assert sum(map(len, tasks)) == len(set.union(*tasks))
        assert all(len(one) > 5 for one in tasks)


def test_tasks_keep_to_the_rules_and_have_a_solution():
    rules = Rules(count_range=(2, 5), number_range=(3, 20), target_range=(30, 60))
    counts = set()
    for index in range(100):
        task = make_task(rules, "train", index)
        counts.add(len(task.numbers))
        assert min(task.numbers) >= 3 and max(task.numbers) <= 20 and 30 <= task.target <= 60
        assert task.target not in task.numbers
        assert reachable(numbers(*task.numbers), Fraction(task.target), True)
        assert right_expression(task.solution, task.numbers, task.target, use_all=True)
    assert counts == {2, 3, 4, 5}


@pytest.mark.parametrize("use_all", [True, False])
def test_the_solver_solves_every_task_and_every_step_is_right(use_all):
    env = make(use_all=use_all, count_range=(2, 5))
    for index in range(60):
        shown = env.demonstration(index)
        assert shown.info["success"] and shown.info["sound"]
        assert env.step_rightness(shown.task_id, shown.steps) == [True] * len(shown.steps)


def test_solvers_that_err_compute_right_and_are_sound_exactly_when_all_steps_are_right():
    env, right = make(mistakes=0.5), 0
    for index in range(N):
        shown = env.demonstration(index)
        judged = env.step_rightness(shown.task_id, shown.steps)
        assert shown.info["sound"] == shown.info["success"] == all(judged)
        assert sorted(judged, reverse=True) == judged, "after a dead end nothing is right"
        left = numbers(*env.task(index).numbers)
        for step in shown.steps[:-1]:
            computes, left = follow(step, left)
            assert computes
        right += shown.info["success"]
    assert 0 < right < N
    assert any(env.demonstration(3, seed=s).steps != env.demonstration(3).steps for s in range(1, 9))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(75 - 25) * 4", 200),
        ("2-3-4", -5),
        ("8/4/2", 1),
        ("2 + 3 * 4", 14),
        ("-(3 - 8)", 5),
        ("3 * -2", -6),
        ("7 / 2", Fraction(7, 2)),
        ("3 / (8 - 8 / 3)", Fraction(9, 16)),
        ("[(1 + 2)] × 3 ÷ 9 − 1", 0),
        (r"$\left(1 + 2\right) \times 3 \div 9 \cdot 2$", 2),
        ("(" * 500 + "3" + ")" * 500, 3),
    ],
)
def test_expressions_are_computed_exactly(text, value):
    assert read_expression(text).value == value


@pytest.mark.parametrize(
    "text",
    ["", "3 4", "2(3)", "3**2", "3 // 2", "1_0", "1.5", "1,000", "(3", "3)", "()", "+3", "--3", "3 +", "* 3", "3 % 2",
     "3e2", "x", "__import__('os')", "1234567890", "٣ + 1", "abs(3)", "3; 4", "3 = 3"],
)  # fmt: skip
def test_what_is_no_expression_is_not_read(text):
    assert read_expression(text) is None


def test_a_division_by_zero_has_no_value():
    assert read_expression("3 / (2 - 2)").value is None
    assert read_expression("0 * (3 / 0)").value is None


def test_more_numbers_than_a_task_can_have_are_read_and_not_computed():
    read = read_expression("*".join(["999999999"] * 400))
    assert len(read.numbers) == 400 and read.value is None


@pytest.mark.parametrize(
    ("answer", "task", "right"),
    [
        ("(75 - 25) * 4", TASK, True),
        ("4 * (75 - 25) = 200", TASK, True),
        ("4 * (75 - 25) = 201", TASK, False),
        ("4 * 75 - 4 * 25", TASK, False),
        ("200", TASK, False),
        ("(75 - 25) * 4 + 0", TASK, False),
        ("(75 - 25) * 5", TASK, False),
        ("75 + 25", LOOSE, True),
        ("75 + 25", Task((75, 4, 25), 100, use_all=True), False),
        ("25 * 4", LOOSE, True),
        ("25 * 4 * 1", LOOSE, False),
        ("25 + 25 + 25 + 25", LOOSE, False),
        ("I cannot", TASK, None),
        ("(1 / 3) * 3", Task((1, 3, 3), 1, use_all=True), True),
        ("(5 + 5) * 5", Task((5, 5, 4), 50, use_all=False), False),
        ("10 / 3 * 3", Task((10, 3, 3), 10, use_all=True), True),
        ("(75 - 25) * 4.", TASK, True),
        ("$(75 - 25) \\times 4$.", TASK, True),
        ("$\\left(75 - 25\\right) \\times 4 = 200$", TASK, True),
        ("(75 - 25) * 4 = 200.", TASK, True),
        ("(75 - 25) * 4 = 200.5", TASK, False),
        ("(75 - 25) * 4..", TASK, None),
        ("(7$5 - 25) * 4", TASK, None),
        ("(7\\left5 - 25) * 4", TASK, None),
        ("(75 - 25) * 4 = 2$00", TASK, False),
        ("(75 - 25] * 4", TASK, None),
        ("[75 - 25) * 4", TASK, None),
        ("[(75 - 25] * 4)", TASK, None),
        ("[(75 - 25)] * 4", TASK, True),
        ("**(75 - 25) * 4 = 200.**", TASK, True),
        ("`(75 - 25) * 4`.", TASK, True),
        (r"\((75 - 25) \cdot 4\)", TASK, True),
        (r"\frac{75 - 25}{\frac14}", Task((75, 1, 25, 4), 200, use_all=True), True),
        (r"4\cdot\dfrac{75}{25}", Task((75, 4, 25), 12, use_all=True), True),
        (r"\frac{75 - 25}{4", TASK, None),
        (r"\text{(75 - 25) x 4}", TASK, True),
        ("4 x", TASK, None),
        ("200 = (75 - 25) * 4", TASK, True),
        ("x = (75 - 25) * 4", TASK, True),
        ("(75 - 25) * 4 = 50 * 4 = 200", TASK, True),
        ("(75 - 25) * 4 = 50 * 5 = 200", TASK, False),
        ("75 - 25 = 50 * 4 = 200", TASK, False),
        ("(75 - 25) * 4 equals 200", TASK, True),
        ("4(75 - 25)", TASK, None),
    ],
)
def test_an_answer_is_paid_when_it_is_the_target_made_of_the_numbers(answer, task, right):
    assert right_expression(answer, task.numbers, task.target, use_all=task.use_all) is right


@pytest.mark.parametrize(
    ("response", "reward", "reason"),
    [
        ("#### (75 - 25) * 4", 1.0, "exact"),
        (r"So it is \boxed{(75 - 25) \times 4}.", 1.0, "exact"),
        ("75 - 25 = 50 (left: 4, 50)\n50 * 4 = 200 (left: 200)\n#### (75 - 25) * 4", 1.0, "exact"),
        ("<answer> (75 - 25) * 4 </answer>", 1.0, "exact"),
        ("So:\n<answer>\n(75 - 25) * 4\n</answer>\n", 1.0, "exact"),
        ("<think>#### 3</think>#### (75 - 25) * 4", 1.0, "exact"),
        ("#### 200", 0.0, "different"),
        ("#### 75 - x", 0.0, "unparsable"),
    ],
)
def test_answers_in_the_forms_that_end_a_response(response, reward, reason):
    _, paid, terminated, _, info = play(response)
    assert (paid, terminated, info["grade_reason"], info["success"]) == (reward, True, reason, reward == 1.0)


@pytest.mark.parametrize(
    "response",
    [
        "So (75 - 25) * 4 = 200.",
        "Therefore, 4 * (75 - 25) equals 200.",
        "**(75 - 25) * 4**",
        "The answer is **(75 - 25) × 4 = 200**.",
        "`(75 - 25) * 4`",
        "```\n(75 - 25) * 4\n```\nHope this helps!",
        r"\[ (75 - 25) \times 4 = 200 \]",
        "First 75 - 25 = 50. Then 50 * 4 = 200. Hence:\n\n(75 - 25) * 4",
        "One solution is: (75 - 25) * 4 = 200. It does not use a number twice.",
        "Final expression: (75 - 25) * 4",
        "1. (75 - 25) * 4 = 200",
        "4 * (75 - 25) = 200\n\nThe answer is 200.",
        "Using 75, 4 and 25 - we get (75 - 25) * 4 - done",
    ],
)
def test_an_answer_in_plain_prose_is_read(response):
    """Neither prose nor Markdown was read."""
    env = make()
    env.task = lambda index: TASK
    env.reset(options={"index": 0})
    env.step(response)
    *_, info = env.step("")
    assert (info["success"], info["grade_reason"]) == (True, "exact")


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("(75 - 25) * 4 does not work.", "unparsable"),
        ("Could it be (75 - 25) * 4?", "unparsable"),
        ("(75 - 25) * 4 or 75 * 4 - 25 * 4", "unparsable"),
        ("(75 - 25) * 4 = 200. Wait, that is wrong.", "no_answer"),
        ("If (75 - 25) * 4 were allowed", "unparsable"),
        ("(75 - 25) * 4 is one, 75 * 4 - 25 * 4 another", "different"),
        ("75 - 25 = 50\n50 * 4 = 200", "different"),
        ("So (75 - 25) * 4 * x", "unparsable"),
        ("It is 1,075 - 25 * 4 now", "unparsable"),
        ("(75 - 25) * 4 = 200\n<answer>200</answer>", "different"),
        ("(75 - 25) * 4 = 200\n#### 200", "different"),
    ],
)
def test_an_expression_that_is_denied_or_followed_by_another_is_no_answer(response, reason):
    env = make()
    env.task = lambda index: TASK
    env.reset(options={"index": 0})
    info = env.step(response)[4]
    info = info if "grade_reason" in info else env.step("")[4]
    assert (info["success"], info["grade_reason"]) in [(False, reason), (False, "no_answer")]


@pytest.mark.parametrize(
    "piece", ["(", "1 + ", "(1)", r"\frac{", r"\frac{1}{", "- ", "1-", "x", "=", "1 = ", " ", "a\n1+1*"]
)
def test_a_long_text_is_read_in_time_that_grows_with_it(piece):
    """A quadratic reader would need 10^9 steps."""
    text = piece * (40_000 // len(piece))
    assert last_expression(text + " x") is None or read_expression(text) is None
    right_expression(text, (1, 2), 3, use_all=True)


def test_what_follows_the_line_of_the_answer_changes_nothing():
    right = "75 - 25 = 50 (left: 4, 50)\n#### (75 - 25) * 4\n"
    for rest in ("#### 1", "Make 3 of the numbers 1 and 2.\n#### 1 + 2", "no step"):
        _, reward, _, _, info = play(right + rest)
        assert (reward, info["answer"], info["sound"]) == (1.0, "(75 - 25) * 4", True)
        assert play("#### 75\n" + right)[1] == 0.0
    assert play("")[4]["grade_reason"] == "no_answer"


def judge(*lines, task=TASK):
    return [right for _, _, right in line_rightness(task, "\n".join(lines))]


def test_a_step_is_right_when_it_computes_right_and_the_target_is_still_in_reach():
    answer = "#### (75 - 25) * 4"
    assert judge("75 - 25 = 50 (left: 4, 50)", "50 * 4 = 200 (left: 200)", answer) == [True, True, True]
    assert judge("75 - 25 = 50 [left: 4, 50]", "So (75 - 25) * 4 = 200.") == [True, True], "as prose states it"
    assert judge("75 - 25 = 50 (left: 4, 50]", "So (75 - 25) * 5 = 250.") == [False, False]
    assert judge("75-25=50", "4 * 50 = 200", answer) == [True, True, True], "what is left need not be said"
    assert judge("75 - 25 = 50 (left: 50, 4)")[0] and judge("75 − 25 = 50 (left: 50 4)")[0], "in any order"
    assert judge("75 - 25 = 50 (left: 50)") == [False], "something is left out"
    assert judge("75 - 25 = 50 (left: 4, 25, 50)") == [False], "something is there twice"
    assert judge("75 - 25 = 40 (left: 4, 40)") == [False], "a slip of arithmetic"
    assert judge("75 + 25 = 100 (left: 4, 100)") == [False], "a dead end"
    assert judge("75 + 25 = 100", "100 * 4 = 400", answer) == [False, False, True], "none is right after a dead end"
    assert judge("100 + 25 = 125") == [False], "a number that is not there"
    assert judge("75 - 75 = 0") == [False], "one number twice"
    assert judge("75 - 25 = 50", "75 - 25 = 50") == [True, False], "spent"
    assert judge("Let me see.", "75 - 25 = 50") == [False, True], "no step, and nothing is lost"
    env = make()
    env.task = lambda index: TASK
    task_id = env.reset(options={"index": 0})[1]["task_id"]
    assert env.step_rightness(task_id, [f"{answer}\n", "75 - 25 = 50"]) == [True, False], "after the answer"
    assert judge("75 - 25 = 50", "<answer>", "50 * 4", "</answer>") == [True, False], "an answer of several lines"
    assert judge("75 - 25 = 50", "So <answer>", "(75 - 25) * 4", "</answer>") == [True, True]
    assert judge("#### 200") == [False]


def test_steps_may_hold_fractions_and_negative_numbers():
    task = Task((3, 3, 8, 8), 24, use_all=True)
    lines = [
        "8 / 3 = 8/3 (left: 3, 8, 8/3)",
        "3 - 8/3 = 1/3 (left: 1/3, 8)",
        "8 / 1/3 = 24 (left: 24)",
        "#### 8/(3-8/3)",
    ]
    assert judge(*lines, task=task) == [True] * 4
    assert judge("4 - 75 = -71 (left: -71, 25)", task=Task((4, 75, 25), 96, use_all=True)) == [True]
    assert judge("3 / 0 = 3", task=Task((3, 0), 3, use_all=True)) == [False]


def test_steps_where_some_numbers_may_be_left_over():
    assert judge("75 + 25 = 100 (left: 4, 100)", "#### 75 + 25", task=LOOSE) == [True, True]
    assert judge("75 * 25 = 1875 (left: 4, 1875)", task=LOOSE) == [False]


def test_actions_of_several_lines_or_parts_of_lines_are_judged_whole():
    env = make(count_range=(4, 4))
    shown = env.demonstration(0)
    first, *rest = shown.steps
    assert env.step_rightness(shown.task_id, [first[:4], first[4:] + "no step\n", "".join(rest)]) == [True, False, True]
    assert env.step_rightness(shown.task_id, ["\n"]) == [False]
    with pytest.raises(ValueError, match="unknown task_id 'nowhere/1'"):
        env.step_rightness("nowhere/1", ["#### 1"])


@pytest.mark.parametrize("given", [(0, 1, 1, 2, 3), (1, 1, 1, 1, 1), (2, 3, 3, 5, 7)])
def test_what_is_in_reach_of_five_numbers_is_what_all_expressions_of_them_make(given):
    """Targets of five numbers are looked for from both ends; all values of them are counted out here."""
    given = numbers(*given)
    everything = _values(given)
    for target in [*range(-30, 60), Fraction(1, 2), Fraction(7, 3), Fraction(-5, 4)]:
        assert reachable(given, Fraction(target), True) == (target in everything), target


def test_all_values_of_few_numbers_are_those_of_written_expressions():
    for pair in combinations_with_replacement(range(4), 2):
        a, b = pair
        texts = [f"{x} {op} {y}" for x, y in ((a, b), (b, a)) for op in "+-*/"]
        values = {read.value for text in texts if (read := read_expression(text)).value is not None}
        assert _values(numbers(a, b)) == values


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count_range": (3, 7)}, r"count_range must be \(low, high\) with 2 <= low <= high <= 6, got \(3, 7\)"),
        ({"number_range": (0, 9)}, "number_range must be .* 1 <= low"),
        ({"target_range": [10]}, r"target_range must be \(low, high\), got \[10\]"),
        ({"target_range": (10, 10.5)}, "target_range must be an integer, got 10.5"),
        ({"max_result": 0}, "max_result must be an integer >= 1, got 0"),
        ({"mistakes": 1.5}, r"mistakes must lie in 0\.\.1, got 1.5"),
        ({"use_all": "no"}, "use_all must be True or False, got 'no'"),
    ],
)
def test_a_wrong_rule_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_rules_that_no_task_meets_are_refused():
    with pytest.raises(ValueError, match="found no task for split 'train' that keeps to Rules"):
        make(count_range=(2, 2), number_range=(1, 1), target_range=(50, 60)).reset(seed=0)


def test_task_ids_tell_rules_apart():
    task_id = make().reset(options={"index": 4})[1]["task_id"]
    assert task_id.startswith("countdown/") and task_id.endswith("/train/4")
    with pytest.raises(ValueError, match="unknown task_id"):
        make(use_all=False).reset(options={"task_id": task_id})


def test_the_vocabulary_holds_every_piece_of_question_and_solution():
    env = make(mistakes=0.3)
    words = set(env.vocabulary())
    for index in range(50):
        text = "\n".join(message["content"] for message in env.demonstration(index).messages)
        assert set(re.findall(r"[A-Za-z]+|\d+|#+|[^\sA-Za-z\d]", text)) <= words
