"""Episodes as a page on which each step is coloured by its advantage.

Knows: HTML, of one file without scripts, fonts or anything else from outside. Does not know: how V was read, figures.
"""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from oreo_agents.episodes.spoken import asked, spoken_steps
from oreo_agents.value_quality.figures import Reading

_RAISES, _LOWERS = "30, 110, 200", "215, 90, 20"  # blue and orange: apart for colour-blind readers too
_DEEPEST = 0.6  # so that text stays readable, dark on light or light on dark

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 84rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; font-size: 1.1rem; }
pre, .step, .said { white-space: pre-wrap; overflow-wrap: anywhere; font-family: ui-monospace, monospace; }
pre { border-left: 3px solid GrayText; padding-left: .8rem; max-height: 24rem; overflow: auto; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 1.5rem; align-items: start; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { padding: .15rem .5rem; text-align: right; vertical-align: top; font-variant-numeric: tabular-nums; }
th { font-weight: 400; color: GrayText; }
th:first-child, td:first-child { text-align: left; }
.said { color: GrayText; }
.scale { display: inline-block; width: 14rem; height: .9rem; vertical-align: middle; border: 1px solid GrayText; }
"""


def value_page(
    readings: Sequence[Reading], *, facts: Mapping[str, str], beta: float | None = None, questions: int = 8
) -> str:
    """Write the page.

    Args:
        readings: all samples; the page shows the first of the ``questions`` that have both outcomes.
        facts: what to say above, by name.
        beta: reward units per nat, to show the implicit advantages; None: there are none.
        questions: how many at most.

    Returns:
        A whole HTML document. Every text of an episode is escaped.
    """
    chosen, selection = choose_pairs(readings, questions)
    scale = float(np.quantile(np.abs(np.concatenate([reading.path.advantages for reading in readings])), 0.95)) or 1.0
    named = "".join(f"<li>{escape(name)}: {escape(text)}</li>" for name, text in facts.items())
    gradient = f"linear-gradient(to right, {colour(-1, 1)}, {colour(0, 1)}, {colour(1, 1)})"
    sections = "\n".join(_question(group, scale, beta) for group in chosen)
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Advantages of steps</title>
<style>{_STYLE}</style></head>
<body>
<h1>Advantages of steps</h1>
<ul>{named}</ul>
<p>Colour: advantage of a step, V after it less V before it,
{-scale:+.2f} <span class="scale" style="background: {gradient}"></span> {scale:+.2f} and beyond (the scale ends where
95% of all steps lie within). Orange lowers V, blue raises it. V after the last step is read just before its end token.
{"" if beta is None else f"β l: how much likelier the policy makes the step than the reference, nats times {beta}."}
</p>
<p>{escape(selection)}</p>
{sections}
</body>
</html>
"""


def choose_pairs(readings: Sequence[Reading], questions: int) -> tuple[list[list[Reading]], str]:
    """Choose which episodes to show, whatever V says of them.

    Returns:
        For each question its first right and its first wrong sample, and the sentence that says how they were chosen;
        where no question has both outcomes, the first sample of the first questions.
    """
    by_task: dict[str, list[Reading]] = {}
    for reading in readings:
        by_task.setdefault(reading.episode.task_id, []).append(reading)
    mixed = [
        [next(r for r in group if r.episode.success), next(r for r in group if not r.episode.success)]
        for group in by_task.values()
        if len({reading.episode.success for reading in group}) == 2
    ]
    if not mixed:
        first = [group[:1] for group in by_task.values()][:questions]
        return first, f"No question has both outcomes; shown is the first sample of the first {len(first)} questions."
    shown = mixed[:questions]
    return shown, (
        f"Shown are the first right and the first wrong sample of the first {len(shown)} of {len(mixed)} questions "
        f"with both outcomes, of {len(by_task)} in all."
    )


def colour(advantage: float, scale: float) -> str:
    """Return the CSS colour of an advantage: orange below 0, blue above, deepest where it reaches the scale."""
    depth = _DEEPEST * min(abs(advantage) / scale, 1.0)
    return f"rgba({_LOWERS if advantage < 0 else _RAISES}, {depth:.3f})"


def _question(group: Sequence[Reading], scale: float, beta: float | None) -> str:
    episode = group[0].episode
    question = "\n\n".join(message["content"] for message in asked(episode))
    tables = "\n".join(_episode(reading, scale, beta) for reading in group)
    return f"""<section><h2>{escape(episode.task_id)}</h2>
<pre>{escape(question)}</pre>
<div class="pair">
{tables}
</div></section>"""


def _episode(reading: Reading, scale: float, beta: float | None) -> str:
    episode, path = reading.episode, reading.path
    outcome = "right" if episode.success else "wrong"
    caption = f"{outcome}{', cut off' if episode.truncated else ''}; V at the start {path.values[0]:.2f}"
    names = ["step", "advantage", *(["β l"] if beta is not None else []), "V after"]
    names += ["step is"] if reading.right is not None else []
    rows = []
    for k, (text, said) in enumerate(spoken_steps(episode)):
        numbers = [f"{path.advantages[k]:+z.2f}"]
        numbers += [f"{beta * path.log_ratios[k]:+z.2f}"] if beta is not None else []
        numbers += [f"{path.values[k + 1]:.2f}"]
        numbers += [("✓ right" if reading.right[k] else "✗ wrong")] if reading.right is not None else []
        cells = "".join(f"<td>{number}</td>" for number in numbers)
        style = f"background: {colour(float(path.advantages[k]), scale)}"
        rows.append(f'<tr style="{style}"><td class="step">{escape(text)}</td>{cells}</tr>')
        if said:
            rows.append(f'<tr><td class="said" colspan="{len(names)}">{escape(said)}</td></tr>')
    header = "".join(f"<th>{name}</th>" for name in names)
    return f"<table><caption>{caption}</caption><tr>{header}</tr>\n{chr(10).join(rows)}\n</table>"
