r"""No text makes grading slow: eight times the text is about eight times the work.

Every compiled pattern of the package is found by itself, and put to texts that repeat one thing again and again, with
what it is used for (``search``, ``match``, ...). Work is CPU time of this process; what takes next to none at the
greater length passes. Patterns that only ever see a bounded text are held to a limit there instead.
"""

import importlib
import inspect
import math
import pkgutil
import re
import signal
import time

import pytest

import oreo_envs.grading as package
from oreo_envs.grading import Thoughts, answer_may_go_on, canonical, extract_answer, grade, has_final_answer
from oreo_envs.grading.extraction import MAX_ANSWER_CHARS

SHORT, LONG = 1_000, 8_000
FAST_S, FACTOR, GRAIN_S = 0.0125, 24, 0.001  # a quadratic scan takes 64 times as long, a linear one 8 times
LIMIT_S = 0.25

# How long the texts are that they see, characters: whole modules, and single patterns.
SEE_ANSWERS = {"notation"}
SEE_CLEAN_ANSWERS = {  # where blanks stand alone
    *("arithmetic", "containers", "equality", "families", "pieces", "rationals", "reading", "relations", "simple"),
    *("size", "systems", "words"),
}
BOUNDED = {
    ("marks", "_JOINT"): 40,
    ("sentences", "_SENTENCE"): 120,
    ("conclusions", "_LAST_LINE"): 120,
    ("conclusions", "_AFTER_VERB"): 2_000,
    ("statements", "_CONDITION"): 200,
    ("statements", "_DOUBT"): 100,
    ("statements", "_TAKEN_BACK"): 200,
    ("families", "_IS_KIND"): 120,
}

UNITS = [
    *"aA1 \n\t*_#.,:;$\\()[]{}=-+^|!<>/%'\"éπ中",
    *("a ", "1 ", "1,", "1.", "a,", "1:", "a_", " \n", "**", "(a", "(1", "{a", r"\(", r"\{", r"\,", r"\a", "Ab ", "x^"),
    *(
        "and ",
        "or ",
        "not ",
        "is ",
        "base ",
        "answer ",
        "the answer is ",
        "Answer: ",
        "A: ",
        "it should be ",
        "a=",
        "1/",
    ),
    *(
        "####",
        "#### ",
        "#### **",
        "####\n",
        r"\boxed{",
        r"\boxed ",
        r"\boxed{1} ",
        r"\text{",
        r"\frac{",
        r"\left(",
        "0.",
    ),
    *(r"\begin{matrix}", r"\cup ", r"\pm", r"\overline ", "[asy]", "<think>", "</think>", "**a**", "**1** "),
]
BEFORE = ["", "#### ", "1", r"\text{"]
METHODS = {"search", "match", "fullmatch", "sub", "subn", "finditer", "findall", "split"}


def texts(length):
    return [before + unit * (length // len(unit)) + "\0" for unit in UNITS for before in BEFORE]


def _patterns():
    for module in pkgutil.iter_modules(package.__path__):
        found = importlib.import_module(f"{package.__name__}.{module.name}")
        source = inspect.getsource(found)
        for name, value in vars(found).items():
            used = set(re.findall(rf"\b{name}\.(\w+)\(", source)) & METHODS
            if used or re.search(rf"^{name}\b", source, re.MULTILINE):
                for number, pattern in enumerate(_inside(value)):
                    label = f"{module.name}-{name}" + (f"-{number}" if number else "")
                    yield pytest.param(module.name, name, pattern, used or {"search"}, id=label)


def _inside(value):
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, dict):
        yield from _inside(tuple(value.values()))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _inside(part)


def _cost(work, text, repeats):
    """Least CPU time of some repeats, seconds; infinite where one takes more than one."""

    def stop(*_):
        raise TimeoutError

    before, least = signal.signal(signal.SIGVTALRM, stop), float("inf")
    try:
        for _ in range(repeats):
            signal.setitimer(signal.ITIMER_VIRTUAL, 1)
            begin = time.process_time()
            work(text)
            least = min(least, time.process_time() - begin)
    except TimeoutError:
        pass
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    return least


def _assert_linear(work):
    for short, long in zip(texts(SHORT), texts(LONG), strict=True):
        if _cost(work, long, 1) > FAST_S:
            slow = _cost(work, long, 3)
            allowed = FACTOR * max(_cost(work, short, 3), GRAIN_S)
            assert math.isfinite(slow) and slow <= allowed, (
                f"{slow:.3f} s of CPU for {long[:40]!r}..., {len(long)} characters"
            )


def _used(pattern, method):
    if method in ("sub", "subn"):
        return lambda text: getattr(pattern, method)("", text)
    if method == "finditer":
        return lambda text: list(pattern.finditer(text))
    return getattr(pattern, method)


def test_the_patterns_are_found():
    labels = {pattern.id for pattern in _patterns()}
    assert {"marks-_HASHES", "notation-_REWRITES-3", "rationals-_NUMBER", "size-_POWER"} <= labels


def test_a_scan_that_is_not_linear_is_noticed():
    _assert_linear(re.compile(r"\**+a").match)
    with pytest.raises(AssertionError, match=r"s of CPU for '\*\*"):
        _assert_linear(re.compile(r"\**\**a").match)
    with pytest.raises(AssertionError, match=r"inf s of CPU"):  # too slow at the smaller length, too
        _assert_linear(re.compile(r"(?:[a-z]+\s?){0,6}").fullmatch)


@pytest.mark.parametrize(("module", "name", "pattern", "methods"), list(_patterns()))
def test_every_pattern_is_linear(module, name, pattern, methods):
    sees_answers = module in SEE_ANSWERS | SEE_CLEAN_ANSWERS
    bound = BOUNDED.get((module, name), MAX_ANSWER_CHARS if sees_answers else None)
    for method in methods:
        work = _used(pattern, method)
        if bound is None:
            _assert_linear(work)
            continue
        for text in texts(bound):
            text = re.sub(r"\s+", " ", text) if module in SEE_CLEAN_ANSWERS else text
            assert _cost(work, text, 1) <= LIMIT_S or _cost(work, text, 3) <= LIMIT_S, text[:40]


def test_an_answer_of_the_greatest_length_is_written_in_one_notation_in_time():
    for text in texts(MAX_ANSWER_CHARS - 10):
        assert _cost(canonical, text, 1) <= LIMIT_S, text[:40]


@pytest.mark.parametrize(
    "work",
    [
        extract_answer,
        has_final_answer,
        answer_may_go_on,
        lambda text: grade(text, "7"),
        lambda text: [Thoughts().answer(text), Thoughts().open_in(text), Thoughts(opened=True).answer(text)],
    ],
    ids=["extract_answer", "has_final_answer", "answer_may_go_on", "grade", "thoughts"],
)
def test_whole_responses_take_linear_time(work):
    _assert_linear(work)
