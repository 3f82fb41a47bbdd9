"""Solutions whose steps were judged one by one.

Sources: PRM800K's phase 1 and 2 rows (Lightman et al. 2023, repository of 2023-05); Math-Shepherd (Wang et al. 2023,
``peiyi9979/Math-Shepherd``): every step ends in the mark "ки", which the label replaces by + or -.
"""

import re
from typing import Any

from oreo_agents.formats.draft import Draft, answered
from oreo_agents.formats.layout import Layout, Row

_MARK = "ки"


def _shepherd(row: Row) -> list[Draft]:
    text, label = row["input"], row["label"]
    first = re.search(r"\s*(?=Step 1\s*:)", text)
    if first is None:
        raise ValueError("field 'input' must hold a question and its steps, the first of which begins with 'Step 1:'")
    parts = text.split(_MARK)
    signs: list[float] = []
    at = 0
    for part in parts[:-1]:
        at = label.find(part, at) + len(part) if label.startswith(part, at) else -1
        sign = label[at : at + 1] if at >= 0 else ""
        if sign not in ("+", "-"):
            raise ValueError(
                f"field 'label' must be the input with + or - in place of each {_MARK!r}; step {len(signs) + 1} is not"
            )
        signs.append(1.0 if sign == "+" else 0.0)
        at += 1
    question, start = text[: first.start()], first.end()
    texts = [part.strip() for part in (parts[0][start:], *parts[1:-1])]
    texts[-1] = f"{texts[-1]} {parts[-1].strip()}".rstrip()
    steps = [f"{text}\n" for text in texts[:-1]] + texts[-1:]
    draft = answered(
        [{"role": "user", "content": question.strip()}],
        "".join(steps),
        label=bool(signs[-1]),
        pieces=steps,
        step_labels=signs,
    )
    if isinstance(row.get("task"), str):
        draft.info["task"] = row["task"]
    return [draft]


def _prm800k(row: Row) -> list[Draft]:
    """Follow the steps that were gone on with; where one was found to be wrong, it is the last."""
    question, judged = row["question"], row["label"]
    steps: list[str] = []
    ratings: list[float] = []
    for number, step in enumerate(judged.get("steps") or (), start=1):
        text, rating = _taken(step, number)
        if text is None:
            break
        steps.append(text if text.endswith("\n") else f"{text}\n")
        ratings.append(rating)
    if not steps:
        raise ValueError("label.steps holds no step that was judged")
    steps[-1] = steps[-1].rstrip("\n")
    reason = judged.get("finish_reason")
    draft = answered(
        [{"role": "user", "content": str(question["problem"])}],
        "".join(steps),
        label=reason == "solution" and min(ratings) >= 0,
        pieces=steps,
        step_labels=ratings,
        truncated=reason in ("give_up", "bad_problem"),
    )
    draft.info["finish_reason"] = str(reason)
    return [draft]


def _taken(step: Any, number: int) -> tuple[str | None, float]:
    """The text of a step that was gone on with, or that was the first to be wrong; and its rating."""
    if step.get("human_completion"):
        return str(step["human_completion"]["text"]), 1.0
    completions, chosen = step.get("completions") or [], step.get("chosen_completion")
    if not completions:
        return None, 0.0
    wrong = (number for number, one in enumerate(completions) if one.get("rating") == -1)
    taken = completions[next(wrong, 0) if chosen is None else int(chosen)]
    if not isinstance(taken.get("text"), str):
        raise ValueError(f"label.steps, step {number}: a completion has a text, got {taken!r:.80}")
    return taken["text"], float(taken.get("rating") or 0)


LAYOUTS = (
    Layout(
        name="prm800k",
        columns=("question", "label"),
        about="PRM800K; right where a solution was reached and no step is rated -1",
        read=_prm800k,
        fits=lambda row: (
            isinstance(row["label"], dict)
            and "steps" in row["label"]
            and isinstance(row["question"], dict)
            and "problem" in row["question"]
        ),
    ),
    Layout(
        name="math-shepherd",
        columns=("input", "label"),
        about="Math-Shepherd; right where the last step is marked +",
        read=_shepherd,
        fits=lambda row: all(isinstance(row[name], str) for name in ("input", "label")) and _MARK in row["input"],
    ),
)
