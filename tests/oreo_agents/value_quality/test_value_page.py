"""The page of steps: texts are escaped, colours follow the sign, nothing comes from outside."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from tiny_models import make_episode

from oreo_agents.value_quality.figures import Reading
from oreo_agents.value_quality.page import choose_pairs, colour, value_page
from oreo_agents.value_quality.path import ValuePath

VOID = {"meta", "br"}


class Checked(HTMLParser):
    """Collects tags and text, and refuses what is not closed in order."""

    def __init__(self, page):
        """Read a whole page."""
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def reading(task, steps, values, *, solved, right=None, observation=None):
    """An episode of one turn, or with an observation between the turns of its steps."""
    messages = [{"role": "user", "content": f"question of {task}"}]
    spans = []
    if observation is None:
        ends = np.cumsum([len(step) for step in steps])
        spans = [(1, int(end) - len(step), int(end)) for step, end in zip(steps, ends, strict=True)]
        messages.append({"role": "assistant", "content": "".join(steps)})
    else:
        for step in steps:
            spans.append((len(messages), 0, len(step)))
            messages += [{"role": "assistant", "content": step}, {"role": "user", "content": observation}]
    episode = make_episode(
        [5],
        *[[6]] * len(steps),
        task_id=task,
        messages=messages,
        action_spans=spans,
        rewards=[0.0] * (len(steps) - 1) + [float(solved)],
        info={"success": solved},
    )
    path = ValuePath(np.array(values), np.zeros(len(values)), np.zeros(len(values)))
    return Reading(episode, path, None if right is None else np.array(right))


def test_texts_of_a_model_are_escaped():
    evil = '<script>alert("1 & 2")</script>\n'
    page = value_page(
        [reading("<b>q</b>", [evil, "#### 1"], [0.1, 0.2, 0.3], solved=True)], facts={"policy": "<i>p</i>"}
    )
    found = Checked(page)
    assert not {"script", "b", "i"} & {tag for tag, _ in found.tags}
    assert '<script>alert("1 & 2")</script>' in found.texts
    assert "<b>q</b>" in found.texts and "policy: <i>p</i>" in found.texts


def test_the_page_needs_nothing_from_outside():
    page = value_page([reading("q", ["a\n", "b"], [0.1, 0.9, 0.2], solved=False)], facts={})
    attributes = {name for _, found in Checked(page).tags for name in found}
    assert not attributes & {"src", "href", "onload", "onclick"}
    assert not re.search(r"url\(|@import|https?:", page)


def test_colours_have_the_sign_and_the_size_of_the_advantage():
    raised, lowered = (colour(sign * 0.2, 0.4) for sign in (1, -1))
    assert raised == "rgba(30, 110, 200, 0.300)" and lowered == "rgba(215, 90, 20, 0.300)"
    assert colour(0.0, 0.4).endswith(" 0.000)")
    assert colour(0.4, 0.4) == colour(7.0, 0.4) == "rgba(30, 110, 200, 0.600)"


def test_each_step_has_its_colour_numbers_and_rightness():
    one = reading("q", ["up\n", "down"], [0.2, 0.6, 0.1], solved=False, right=[True, False])
    one.path.log_ratios[:] = [0.5, -0.001, 9.0]
    page = value_page([one], facts={}, beta=0.5)
    rows = re.findall(r'<tr style="background: rgba\((.*?)\)">(.*?)</tr>', page)
    assert [row[0].rpartition(",")[0] for row in rows] == ["30, 110, 200", "215, 90, 20"]
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row[1]) for row in rows]
    assert cells == [["up", "+0.40", "+0.25", "0.60", "✓ right"], ["down", "-0.50", "+0.00", "0.10", "✗ wrong"]]
    assert "wrong; V at the start 0.20" in page


def test_what_the_environment_said_stands_between_the_steps():
    page = value_page(
        [reading("q", ["open door", "go"], [0.2, 0.6, 0.1], solved=True, observation="It creaks.")], facts={}
    )
    texts = [text for text in Checked(page).texts if text in ("open door", "go", "It creaks.", "question of q")]
    assert texts == ["question of q", "open door", "It creaks.", "go", "It creaks."]
    assert "✓" not in page, "rightness is not known"


def test_the_first_mixed_questions_are_shown_whatever_v_says():
    samples = [
        reading(task, [f"{task}{k}"], [0.1, float(k)], solved=solved)
        for k, (task, solved) in enumerate(
            [("easy", True), ("easy", True), ("b", False), ("b", True), ("b", False), ("c", True), ("c", False)]
        )
    ]
    chosen, sentence = choose_pairs(samples, 1)
    assert [[one.path.values[-1] for one in group] for group in chosen] == [[3.0, 2.0]], "right, then wrong"
    assert "first 1 of 2 questions with both outcomes, of 3 in all" in sentence
    chosen, sentence = choose_pairs(samples[:2], 5)
    assert len(chosen) == 1 and "No question has both outcomes" in sentence


@pytest.mark.parametrize("values", [[0.5, 0.5], [0.5, 0.5 + 1e-9]])
def test_a_value_that_never_changes_has_a_page(values):
    Checked(value_page([reading("q", ["a"], values, solved=True)], facts={}))
