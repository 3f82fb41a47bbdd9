"""Worlds, solutions and the soundness checker, against brute force."""

import itertools
import re

import pytest

from oreo_envs.wordproblems import VERBS, Problem, Reading, World, check_solution, solve, vocabulary

WORLD = World.from_seed(0)


def problem(box=8, start=21, verbs=(0, 1, 2), amounts=(5, 2, 3)):
    return Problem(WORLD, person=0, thing=0, start=start, verbs=verbs, amounts=amounts, box=box)


def test_a_question_reads_as_in_the_description():
    assert problem().question == ("Tom has 21 marbles. He wugs 5. He blickets 2. He daxes 3. How many full boxes of 8?")
    assert problem(box=None).question.endswith("He daxes 3. How many marbles?")


def test_readings_are_the_four_of_the_description():
    assert sorted(reading.change(5) for reading in Reading) == [-10, -5, 5, 10]


def test_every_chain_is_sound_exactly_when_all_readings_and_the_answer_are_right():
    """All 64 solutions of three verbs; what a line says is evaluated independently."""
    task = problem()
    for readings in itertools.product(Reading, repeat=3):
        response = solve(task, readings)
        *lines, last = response.split("\n")
        total = task.start
        for line, verb, amount, reading in zip(lines, task.verbs, task.amounts, readings, strict=True):
            told, sum_ = line.split(": ")
            assert told == f"{total} {VERBS[verb]} {amount}"
            left, right = sum_.split(" = ")
            assert eval(left) == int(right) == total + reading.change(amount)
            total = int(right)
        assert last == f"#### {total // 8}"
        check = check_solution(task, response)
        assert [step.reading for step in check.steps] == list(readings)
        assert [step.reads_right for step in check.steps] == [
            reading is right for reading, right in zip(readings, task.readings, strict=True)
        ]
        assert all(step.computes_right for step in check.steps)
        assert check.answer_right == (total // 8 == task.answer)
        assert check.sound == (readings == task.readings)


def test_some_wrong_chains_are_lucky_with_boxes_and_none_is_with_exact_answers_by_one_wrong_verb():
    def lucky(task):
        return sum(
            check_solution(task, solve(task, readings)).answer_right
            for readings in itertools.product(Reading, repeat=3)
            if readings != task.readings
        )

    assert lucky(problem()) > 0
    exact = problem(box=None, verbs=(0,), amounts=(5,))
    assert not any(
        check_solution(exact, solve(exact, (reading,))).answer_right
        for reading in Reading
        if reading is not exact.readings[0]
    )


@pytest.mark.parametrize(
    ("change", "step", "reads_right", "computes_right"),
    [
        (lambda lines: lines[0].replace("21 wugs", "20 wugs"), 0, True, False),
        (lambda lines: re.sub(r"= \d+", "= 1", lines[0]), 0, True, False),
        (lambda lines: lines[0].replace("wugs", "daxes"), 0, False, True),
        (lambda lines: lines[0] + " or so", 0, False, False),
        (lambda lines: "21 wugs 5: 21 + 3 = 24", 0, False, True),
        (lambda lines: "21 wugs 6: 21 + 6 = 27", 0, False, True),
    ],
)
def test_a_spoilt_line_is_judged_for_what_it_is(change, step, reads_right, computes_right):
    task = problem()
    lines = solve(task).split("\n")
    lines[step] = change(lines)
    check = check_solution(task, "\n".join(lines))
    assert not check.sound
    assert check.steps[step].reads_right is reads_right
    assert check.steps[step].computes_right is computes_right


@pytest.mark.parametrize(
    "spoil",
    [
        lambda right: "",
        lambda right: right.rpartition("\n")[0],
        lambda right: right.rpartition("\n")[2],
        lambda right: right + "\nmore",
        lambda right: "first\n" + right,
        lambda right: right.partition("\n")[2],
        lambda right: right.replace("\n####", "\n\n####"),
        lambda right: right + "0",
        lambda right: "9" * 10_000,
    ],
)
def test_missing_and_superfluous_lines_are_unsound(spoil):
    task = problem()
    assert check_solution(task, solve(task)).sound
    assert not check_solution(task, spoil(solve(task))).sound


def test_totals_below_zero_are_written_with_a_minus_and_floored():
    task = problem(start=1, verbs=(0,), amounts=(2,))
    down = solve(task, (Reading.TAKE_TWICE,))
    assert down == "1 wugs 2: 1 - 4 = -3\n#### -1"
    assert check_solution(task, down).steps[0].reading is Reading.TAKE_TWICE


def test_worlds_differ_by_seed_and_nest_by_size():
    assert World.from_seed(0) == WORLD != World.from_seed(1)
    small = World.from_seed(0, num_verbs=7)
    assert (small.verbs, small.right, small.tempting) == (
        VERBS[:7],
        WORLD.right[:7],
        WORLD.tempting[:7],
    )
    for seed in range(50):
        world = World.from_seed(seed)
        assert all(right is not wrong for right, wrong in zip(world.right, world.tempting, strict=True))


def test_readings_are_spread_evenly_over_worlds():
    worlds = [World.from_seed(seed) for seed in range(200)]
    for reading in Reading:
        share = sum(world.right.count(reading) for world in worlds) / (200 * 24)
        assert share == pytest.approx(0.25, abs=0.03)


def test_reliabilities_lie_in_their_range_and_the_clean_share_is_exact():
    plain = WORLD.reliabilities(0.3, 0.98)
    assert all(0.3 <= p <= 0.98 for p in plain) and len(set(plain)) == 24
    mixed = WORLD.reliabilities(0.2, 0.75, clean_share=0.5, clean=0.97)
    assert mixed.count(0.97) == 12
    rescaled = [0.2 + (p - 0.3) / 0.68 * 0.55 for p in plain]
    assert all(p == 0.97 or p == pytest.approx(q) for p, q in zip(mixed, rescaled, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((-1,), "world must be a seed >= 0"), ((0, 25), r"num_verbs must be in 1\.\.24, got 25")],
)
def test_an_impossible_world_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        World.from_seed(*arguments)


def test_the_vocabulary_spells_every_question_and_solution():
    known = set(vocabulary())
    assert len(known) == len(vocabulary())
    for box in (None, 8):
        for readings in itertools.product(Reading, repeat=3):
            task = problem(box=box, start=3)
            text = task.question + "\n" + solve(task, readings)
            assert set(re.findall(r"####|[A-Za-z]+|\S", text)) <= known
    assert not known & set(VERBS[5:]) - set(vocabulary(24)) and VERBS[5] not in vocabulary(5)
