"""Where the command of a turn stands, in each format; threads of users in the names."""

import re

import pytest

from oreo_envs.action_formats import ActionFormat, Said, unwrap
from oreo_envs.grading.thoughts import NO_THOUGHTS, Thoughts

THOUGHTS = Thoughts()
REACT, ETO, TAGS = ActionFormat("react"), ActionFormat("react", "eto"), ActionFormat("tags")


def react(text: str) -> Said:
    return REACT.read(text, THOUGHTS)


@pytest.mark.parametrize(
    "text",
    [
        "Action: go to desk 1",
        "ACTION: go to desk 1",
        "action : go to desk 1",
        "**Action:** go to desk 1",
        "**Action**: go to desk 1",
        "__Action:__ *go to desk 1*",
        "### Action: go to desk 1",
        "- Action: go to desk 1",
        "2. Action: go to desk 1",
        "> Action: > go to desk 1",
        "Action 3: go to desk 1",
        "Action\uff1ago to desk 1",
        'Action: "go to desk 1"',
        'Action: "go to desk 1".',
        "Action: \u201cgo to desk 1\u201d",
        "Action: `go to desk 1`",
        "Action: [go to desk 1]",
        "Action: <go to desk 1>",
        "Action: ```go to desk 1```",
        "Action:\n```\ngo to desk 1\n```",
        "Action:\n```text\ngo to desk 1\n```\n",
        "Action:\ngo to desk 1",
        "Action: go to desk 1</s>",
        "Action: [go to desk 1]<|im_end|>",
        "Action: go to desk 1<|eot_id|>\n",
        "Action:\nAction: go to desk 1",
        "Action: Action: go to desk 1",
        "ACTION:Action:Action 2: go to desk 1",
        "**Action:** **Action:** go to desk 1",
        "> Action: > Action: `go to desk 1`",
        'Action: "Action: go to desk 1"',
        "Action: Action:\ngo to desk 1",
        "Action:\n1. go to desk 1",
        "Action: - go to desk 1",
        "Action: <action>go to desk 1</action>",
        "Sure!\nThought: a desk.\nAction: go to desk 1",
        "Thought: a desk. Action: go to desk 1",
        "Thought: Action: is a word.\nAction: go to desk 1",
        "<|im_start|>assistant\nThought: x\nAction: go to desk 1",
        "<think>Action: look</think>\nAction: go to desk 1",
    ],
)
def test_dspy_535_wkm_15_an_action_is_found_however_it_is_dressed(text: str):
    assert react(text) == Said("go to desk 1")
    assert react(f"Thought: I see.\n{text}").command == "go to desk 1"


@pytest.mark.parametrize(
    "rest",
    [
        "Observation: On the desk 1, you see a mug 1.\nThought: A mug.\nAction: take mug 1 from desk 1",
        "**Observation:** nothing\nAction: look",
        "Thought: Next.\nAction: look",
        "Action: look",
        "Action Input: mug 1",
        "Your task is to: win.",
        "<think>b</think>\nAction: look",
    ],
)
@pytest.mark.parametrize("start", ["Action: go to desk 1", "Thought: x\nAction: go to desk 1"])
def test_db_gpt_3074_what_was_invented_after_the_first_action_is_dropped(start: str, rest: str):
    said = react(f"{start}\n{rest}")
    assert said.command == "go to desk 1"
    assert said.rest == re.sub("<think>.*</think>\n", "", rest)


def test_an_observation_in_the_same_line_is_no_part_of_the_action():
    assert react("Thought: x. Action: look Observation: a mug.\nAction: inventory") == Said(
        "look", "Observation: a mug.\nAction: inventory"
    )
    assert react("Action: look</s><s>Action: inventory").command == "look"


def test_an_observation_invented_before_the_only_action_does_not_hide_it():
    assert react("Thought: a\nObservation: b\nThought: c\nAction: look") == Said("look")


@pytest.mark.parametrize(
    "text",
    ["", "go to desk 1", "Reaction: look", "Action Input: look", "Action:", "Action:\nObservation: a", "Action look"],
)
def test_a_turn_without_an_action_has_none(text: str):
    assert react(text).command == ""


@pytest.mark.parametrize(
    "text", ["Action: go to desk 1.", "Action: take mug 1 from desk 1 (it is dirty) and go", "Action: think: I see (a)"]
)
def test_what_stands_inside_a_command_stays(text: str):
    assert react(text).command == text.removeprefix("Action: ").removesuffix(")" if text.endswith("(a)") else "")


@pytest.mark.parametrize(
    "text",
    [
        "Thought: a\nAction: go to desk 1",
        "Action: go to desk 1\nObservation: b\nAction: look",
        "  Action:go to desk 1\n",
        "Thought: Action: a\nAction: b",
        "ACTION: look",
        "**Action:** look",
        "",
    ],
)
def test_the_rule_of_eto_is_its_own(text: str):
    """Its three lines of code, with "" where it raises."""
    found = re.findall(re.compile(r"Action:\s?(.*)", re.DOTALL), text.strip())
    assert ETO.read(text, THOUGHTS) == Said(found[0] if found else "")


def projection(text: str) -> tuple[str, bool]:
    """verl-agent's rule, step by step."""
    low = text.lower()
    start, end = low.find("<action>"), low.find("</action>")
    if -1 in (start, end):
        return low[-30:], False
    valid = "<think>" in text and "</think>" in text and not any("\u4e00" <= letter <= "\u9fff" for letter in text)
    return low[start + 8 : end].strip(), valid


@pytest.mark.parametrize(
    "text",
    [
        "<think>a</think><action>go to desk 1</action>",
        "<think>\na\n</think>\n<action>\nGo To desk 1\n</action>",
        "<action>look</action>",
        "<ACTION>look</ACTION>",
        "<action>look</action><think>a</think>",
        "<think>a</think><ACTION>look</ACTION>",
        "<think>\u684c\u5b50</think><action>look</action>",
        "<think>\u3042</think><action>look</action>",
        "<think>a</think><action>look</action><think>b</think><action>inventory</action>",
        "<think>a</think><action>look",
        "<think>a</think> I will go to the desk 1 and then take the mug 1 from it",
        "go to desk 1",
        "<think>a</think>go to desk 1",
        "<think>a</think><action>go to desk 1</action",
        "</action><action>look<think></think>",
        "",
    ],
)
def test_react_38_tags_are_read_as_verl_agent_does(text: str):
    command, valid = projection(text)
    # Tags of a thought are no command of any game.
    assert TAGS.read(text, THOUGHTS)[::2] == ("" if "k>" in command else command, valid)


def test_what_verl_agent_would_obey_inside_a_thought_is_not_obeyed():
    assert TAGS.read("<think><action>look</action></think><action>help</action>", THOUGHTS) == Said("help", "", True)
    assert TAGS.read("<think><action>look</action>", THOUGHTS).command == ""
    assert TAGS.read("<think>a</think><action>look</action><think>b</think><action>help</action>", THOUGHTS) == Said(
        "look", "<action>help</action>", True
    )


def test_a_thought_that_the_prompt_began_counts_as_said():
    assert TAGS.read("a</think><action>look</action>", Thoughts(opened=True)) == Said("look", "", True)
    assert TAGS.read("a</think><action>look</action>", THOUGHTS).valid is False
    assert TAGS.read("<action>look</action>", Thoughts(opened=True)).command == ""


@pytest.mark.parametrize("action_format", [ActionFormat(), REACT, ETO, TAGS], ids=["command", "react", "eto", "tags"])
@pytest.mark.parametrize("reason", ["", "I need a mug."])
def test_what_is_written_is_read(action_format: ActionFormat, reason: str):
    said = action_format.read(action_format.write("take mug 1 from desk 1", reason), THOUGHTS)
    assert said.command == "take mug 1 from desk 1" and not said.rest and said.valid in (None, True)


def test_text_outside_thoughts():
    for text, outside in [
        ("a<think>b</think>c", "a\nc"),
        ("a</think>b", "b"),
        ("a<think>b", "a\n"),
        ("<think>a</think>b<think>c</think>d", "\nb\nd"),
        ("<think><think>a</think>b</think>c", "c"),
        ("<|channel|>analysis<|message|>a<|channel|>final<|message|>b", "\nb"),
        ("<|channel|>final<|message|>b", "b"),
        ("[THINK]a</think>b[/THINK]c", "\nc"),
    ]:
        assert THOUGHTS.outside(text) == outside
    assert Thoughts(opened=True).outside("a</think>b<think>c</think>d") == "b\nd"
    assert Thoughts(opened=True).outside("a") == "" and NO_THOUGHTS.outside("<think>a") == "<think>a"


def test_wrappers_go_and_words_stay():
    for text, inner in [("'a'.", "a"), ("a.", "a."), ("*a*", "a"), ("> a", "a"), ("((a))", "a"), ('".', "."), ("", "")]:
        assert unwrap(text) == inner


@pytest.mark.parametrize(
    "piece", ["Action:", "Action:\n", '"', "'.", "<think>", "</think>", "<action>", "> ", "\n", "1."]
)
def test_a_long_turn_is_read_in_time_that_grows_with_it(piece: str):
    """By the work that is done, not by a clock: a quadratic reader would need 10^12 steps here and never end."""
    for action_format in (REACT, ETO, TAGS):
        action_format.read(piece * (1_000_000 // len(piece)) + "x", THOUGHTS)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("reakt",), "unknown action_format 'reakt'; did you mean 'react'"),
        (("react", "last"), "unknown react 'last'"),
        (("tags", "eto"), "has no effect with action_format='tags'; set action_format='react'"),
    ],
)
def test_formats_that_are_none_are_refused(names, message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        ActionFormat(*names)
