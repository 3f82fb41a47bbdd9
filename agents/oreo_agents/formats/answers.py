"""Questions with solutions or with several answers, and what generators leave of a prompt and its continuation.

Sources: NuminaMath-1.5 (2025-02), DeepScaleR (2025-02), MATH, GSM8K (a solution ends in ####), OpenMathInstruct-1 and 2
(``generated_solution``, ``is_correct``), SFT data of Nemotron (2025-04), rollouts that verl 0.4 dumps
(``trainer.rollout_data_dir``) and generates (``main_generation``), outputs of Qwen2.5-Math's evaluation
(``code, score``).
"""

from typing import Any

from oreo_agents.formats.chat import is_chat
from oreo_agents.formats.draft import Draft, answered, scalars
from oreo_agents.formats.labels import LABELS, label_of, text_field
from oreo_agents.formats.layout import Layout, Row
from oreo_agents.formats.trl import conversation

_QUESTIONS = ("problem", "question", "prompt")
_SOLUTIONS = ("generated_solution", "solution", "answer")
_ANSWERS = ("responses", "completions", "samples", "outputs", "code")
_VERDICTS = (*LABELS, "rewards", "scores", "labels", "correctness")


def _named(row: Row, names: tuple[str, ...]) -> str:
    return next((name for name in names if row.get(name) is not None), names[0])


def _solved(row: Row) -> bool:
    """Whether there is a solution, and no conversation that shows it: a bare answer shows nothing to learn from."""
    if is_chat(row.get("messages")):
        return False
    name = _named(row, _SOLUTIONS)
    return name != "answer" or (isinstance(row[name], str) and "####" in row[name])


def _solution(row: Row) -> list[Draft]:
    label = label_of(row)
    prompt = [{"role": "user", "content": text_field(row, _named(row, _QUESTIONS))}]
    return [answered(prompt, text_field(row, _named(row, _SOLUTIONS)), label=label, shown=label is None)]


def _continued(row: Row) -> list[Draft]:
    label = label_of(row)
    draft = conversation(row["input"], row["output"], row, ("input", "output"), label=label, shown=label is None)
    draft.info |= scalars(row, ("step", "category"))
    return [draft]


def _answers(row: Row) -> list[Draft]:
    name = _named(row, _ANSWERS)
    texts, verdicts = row[name], next((row[one] for one in _VERDICTS if isinstance(row.get(one), list)), None)
    if verdicts is not None and len(verdicts) != len(texts):
        raise ValueError(f"there are {len(texts)} {name}, and {len(verdicts)} verdicts of them")
    labels: list[Any] = [None] * len(texts) if verdicts is None else verdicts
    asked = _named(row, _QUESTIONS)
    drafts = [
        conversation(row[asked], text, row, (asked, name), label=label)
        for text, label in zip(texts, labels, strict=True)
    ]
    for number, draft in enumerate(drafts):
        draft.info["sample"] = number
    return drafts


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


LAYOUTS = (
    Layout(
        name="answers",
        columns=("|".join(_QUESTIONS), "|".join(_ANSWERS)),
        about="several answers to a prompt (verl's generation and others), perhaps with a list of verdicts",
        read=_answers,
        fits=lambda row: _are_texts(row[_named(row, _ANSWERS)]),
    ),
    Layout(
        name="problem-solution",
        columns=("problem|question", "|".join(_SOLUTIONS)),
        about="NuminaMath, OpenMathInstruct, MATH, GSM8K; solutions to imitate, perhaps with a verdict",
        read=_solution,
        fits=_solved,
    ),
    Layout(
        name="input-output",
        columns=("input", "output"),
        about="Nemotron's SFT data, and rollouts that verl dumps, with a score",
        read=_continued,
        fits=lambda row: isinstance(row["output"], str) and (isinstance(row["input"], str) or is_chat(row["input"])),
    ),
)
