"""How a question is put to a policy: named, versioned templates of chat messages.

Knows: texts. Does not know: chat templates of models, tokens.
A template never changes under its name: a new wording is a new version. A name without a version is
the newest one. Source of ``gsm8k-hash`` and ``boxed``: Wang et al. 2024 (arXiv:2412.16145) ask for
step-by-step reasoning, and for the answer after four ``#`` on GSM8K and in ``\\boxed{}`` on MATH;
the wording here is ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from oreo_envs.checks import choose
from oreo_envs.messages import Message, message


@dataclass(frozen=True)
class PromptTemplate:
    """Messages that open an episode; ``{question}`` in ``user`` is where the task's text goes."""

    user: str = "{question}"
    system: str | None = None

    def messages(self, question: str) -> tuple[Message, ...]:
        """Fill in the question. It is inserted as it is: braces in it have no meaning."""
        opening = () if self.system is None else (message("system", self.system),)
        # A bare question stays the same object, which all episodes of a task share.
        filled = question if self.user == "{question}" else self.user.replace("{question}", question)
        return (*opening, message("user", filled))


_COMMANDS = (
    "go to R, open R, close R, take O from R, {}, heat O with R, cool O with R, clean O with R, slice O with O, "
    "use O, examine O, look, inventory, help. O is an object and R a receptacle, each with its number, like mug 1."
)
_NATIVE, _PAPER = _COMMANDS.format("move O to R"), _COMMANDS.format("put O in/on R")
_COMMAND_ALONE = "You act in a household. Answer with one command a turn and nothing else: "
_FORM = "Answer each turn with a thought and one command, in this form:\n"
_REACT_FORM = f"{_FORM}Thought: what to do next and why\nAction: the command\n"
_TAGS_FORM = f"{_FORM}<think>what to do next and why</think>\n<action>the command</action>\n"
_THOUGHT_AND_COMMAND = f"You act in a household. {_REACT_FORM}Commands are "
_TAGS = f"You act in a household. {_TAGS_FORM}Commands are "
_TEXTWORLD = (
    "Commands are words such as look, inventory, go north, examine X, open X, close X, unlock X with Y, take X, "
    "take X from Y, put X on Y, insert X into Y, drop X, eat X, cook X with Y, cut X with Y, prepare meal; X and Y are "
    "things, by their whole names."
)

PROMPTS: dict[str, PromptTemplate] = {
    "question@1": PromptTemplate(),
    "gsm8k-hash@1": PromptTemplate(
        system=(
            "Solve the math problem. Reason step by step, one step a line, and give the final "
            "answer on the last line after four # signs, like this: #### 42"
        )
    ),
    "boxed@1": PromptTemplate(system="Please reason step by step, and put your final answer within \\boxed{}."),
    "answer-tags@1": PromptTemplate(
        system="Reason step by step, then give the final answer and nothing else between <answer> and </answer>."
    ),
    "countdown@1": PromptTemplate(
        system=(
            "Combine the numbers with +, -, *, / and parentheses so that they make the target. Write one operation a "
            "line, with the numbers that are left after it, and the whole expression on the last line after four # "
            "signs, like this:\n75 - 25 = 50 (left: 4, 50)\n50 * 4 = 200 (left: 200)\n#### (75 - 25) * 4"
        )
    ),
    "alfworld@1": PromptTemplate(system=_COMMAND_ALONE + _NATIVE),
    "alfworld-paper@1": PromptTemplate(system=_COMMAND_ALONE + _PAPER),
    "alfworld-react@1": PromptTemplate(system=_THOUGHT_AND_COMMAND + _NATIVE),
    "alfworld-react-paper@1": PromptTemplate(system=_THOUGHT_AND_COMMAND + _PAPER),
    "alfworld-tags@1": PromptTemplate(system=_TAGS + _NATIVE),
    "alfworld-tags-paper@1": PromptTemplate(system=_TAGS + _PAPER),
    "textworld@1": PromptTemplate(
        system="You play a text game. Answer with one command a turn and nothing else. " + _TEXTWORLD
    ),
    "textworld-react@1": PromptTemplate(system="You play a text game. " + _REACT_FORM + _TEXTWORLD),
    "textworld-tags@1": PromptTemplate(system="You play a text game. " + _TAGS_FORM + _TEXTWORLD),
}

LISTS = {"admissible@1": "Your admissible actions of the current situation are: [{}]."}
"""How what can be done now follows what is observed, on a line of its own: each action in quotation marks on a line,
without "help", as verl-agent's prompt for ALFWorld lists them (Feng et al. 2025, arXiv:2505.10978)."""


def prompt_template(name: str) -> PromptTemplate:
    """Return the template called ``name``, "boxed" or "boxed@1".

    Raises:
        ValueError: there is none; the message offers the closest one.
    """
    return PROMPTS[_newest("prompt", name, PROMPTS)]


def with_list(text: str, actions: Iterable[str], name: str) -> str:
    """Return a text followed by what can be done, as the list called ``name`` has it."""
    shown = "\n ".join(f"'{action}'" for action in actions if action != "help")
    return f"{text}\n{LISTS[name].replace('{}', shown)}"


def list_name(name: bool | str) -> str | None:
    """Return the full name of the list called ``name``, such as "admissible@1"; True: "admissible", False: None.

    Raises:
        ValueError: there is none; the message offers the closest one.
    """
    if isinstance(name, bool):
        return list_name("admissible") if name else None
    return _newest("admissible_in_prompt", name, LISTS)


def _newest(what: str, name: str, known: Iterable[str]) -> str:
    """The name with its version: the newest one where it has none."""
    named = (key for key in known if isinstance(name, str) and key.partition("@")[0] == name)
    versions = sorted(named, key=lambda key: int(key.partition("@")[2]))
    return versions[-1] if versions else choose(what, name, known)
