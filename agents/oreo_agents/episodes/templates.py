"""Chat templates as text: what stands around what is said, and what a template cannot write.

Knows: Jinja templates, roles, thoughts. Does not know: tokens, environments, where a template comes from
(``template_settings``).
Nothing is assumed of a template. A conversation is cut into pieces, and these are right when they add up to what the
template itself writes for it; else it is refused.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from oreo_envs.grading import Thoughts

Message = dict[str, str]

# Stand-ins for what is said, to find the template's own text around it. Some templates drop old thoughts.
_SYSTEM, _QUESTION, _OBSERVATION, _ANSWER, _THOUGHT = (
    f"Xq7{name}" for name in ("system", "question", "observation", "answer", "thought")
)

ASKED: tuple[Message, ...] = ({"role": "user", "content": _QUESTION},)
"""A question, of which only its place matters."""

_MEND = "use another one (policy.chat_template=FILE)"
# What the code of a template may raise.
_TEMPLATE_ERRORS = (TemplateError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError)


class Turn(NamedTuple):
    """An answer that was not sampled, as a template writes it.

    Attributes:
        prompt: up to where the model begins to speak.
        bridge: what the template writes between the prompt and the answer, such as an empty thought.
        text: the answer.
        ending: what the template writes after it.
    """

    prompt: str
    bridge: str
    text: str
    ending: str


class ChatTemplate:
    """The chat template of a tokenizer."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        name: str,
        *,
        thoughts: Thoughts,
        system_prompt: str | None = None,
        shield: Callable[[str], str] = str,
    ) -> None:
        """Try the template on a question.

        Args:
            tokenizer: with the template.
            name: what to call it in errors.
            thoughts: how thoughts begin and end.
            system_prompt: see ``replace_system``.
            shield: applied to all that is said but by the model.

        Raises:
            ValueError: the template cannot write a question.
        """
        self.tokenizer, self.name, self.thoughts = tokenizer, name, thoughts
        self._system_prompt, self._shield = system_prompt, shield
        self._plain_between = lru_cache(self._between_any)
        self.folds_system = False
        self.folds_system = not self._keeps_system()
        self.prompt(ASKED)

    def tell(self) -> str:
        """Say how the template writes messages.

        Raises:
            ValueError: it leaves out what is asked.
        """
        if self.prompt(ASKED).count(_QUESTION) != 1:
            raise ValueError(
                f"{self.name}: the chat template of this tokenizer does not write what the user says, or more than "
                f"once; {_MEND}"
            )
        return "a system message goes into the first question" if self.folds_system else "each message as it is"

    def prompt(self, messages: Sequence[Message]) -> str:
        """Write messages up to where the model begins to speak."""
        return self._render(messages, generate=True)

    def answered(self, messages: Sequence[Message], *, ended: bool = True) -> Turn:
        """Write messages of which the last is the first of the model, and was not sampled.

        Args:
            messages: the last one is the answer.
            ended: it is whole. Where the prompt begins a thought, an answer that was cut off may not have left it.

        Raises:
            ValueError: the template does not write this answer after its prompt.
        """
        self.tell()
        *before, answer = messages
        text = answer["content"]
        prompt = self.prompt(before)
        head, ending = self._around(before)
        opened = self.opened(before)
        thinks = self.thoughts.closes(text) or self.thoughts.answer(text) is None
        if thinks or (opened and not ended):
            return self._thoughtful(before, text, prompt, head, ending, opened or "", ended=ended)
        bridge = self._bridge(before, prompt, head, opened)
        written = self._render(messages, generate=False)
        for kept in (text, text.rstrip(), text.lstrip(), text.strip()):
            if written == head + kept + ending:
                return Turn(prompt, bridge, kept, ending)
        raise ValueError(
            f"{self.name}: the chat template of this tokenizer writes the answer {_short(text)} in another way than it "
            f"was given, or not at all; {_MEND}"
        )

    def _thoughtful(
        self, before: Sequence[Message], text: str, prompt: str, head: str, ending: str, opened: str, *, ended: bool
    ) -> Turn:
        """Write an answer that holds its own thoughts; the prompt may have begun them already."""
        own, blank = text.removeprefix(opened), head.removeprefix(prompt)
        bridges = dict.fromkeys(("", blank if blank.isspace() else ""))
        for told in dict.fromkeys((text, opened + own)):
            written = self._render([*before, {"role": "assistant", "content": told}], generate=False)
            for bridge in bridges:
                for kept in dict.fromkeys((own, own.rstrip())):
                    if written == prompt + bridge + kept + ending:
                        return Turn(prompt, bridge, kept, ending)
        if not ended:  # it was sampled, and may have been cut off inside a thought
            return Turn(prompt, "", own, ending)
        raise ValueError(
            f"{self.name}: the chat template of this tokenizer drops or changes the thoughts of an answer, so that "
            f"{_short(text)} is not what it writes; use one that keeps them (policy.chat_template=FILE)"
        )

    def _around(self, before: Sequence[Message]) -> tuple[str, str]:
        """Return what the template writes before and after an answer."""
        written = self._render([*before, {"role": "assistant", "content": _ANSWER}], generate=False)
        if written.count(_ANSWER) != 1:
            raise ValueError(
                f"{self.name}: the chat template of this tokenizer does not write what the model says, so nothing "
                f"that was not sampled can be encoded; {_MEND}"
            )
        head, _, ending = written.partition(_ANSWER)
        return head, ending

    def _bridge(self, before: Sequence[Message], prompt: str, head: str, opened: str | None) -> str:
        """Return what goes between the prompt and an answer without thoughts, given what the template has before it."""
        if head.startswith(prompt):
            bridge = head.removeprefix(prompt)
            if opened is None or self.thoughts.answer(opened + bridge) is not None:
                return bridge
        elif opened is not None:
            shared = prompt[: -len(opened)].rstrip()
            if head.startswith(shared):
                rest = head.removeprefix(shared).lstrip()
                if not rest:  # it leaves the thought out
                    return self._closing(before, opened)
                closing = rest.removeprefix(opened.rstrip())
                if (self.thoughts.answer(opened + closing) or "").strip() == "" and self.thoughts.closes(closing):
                    return closing
        raise ValueError(
            f"{self.name}: the chat template of this tokenizer writes an answer after {_short(head[-60:])}, and asks "
            f"for one with {_short(prompt[-60:])}: where an answer belongs cannot be told; {_MEND}"
        )

    def _closing(self, before: Sequence[Message], opened: str) -> str:
        """Return how the template ends a thought that its prompt has begun, without a thought in it."""
        told = {"role": "assistant", "content": _ANSWER, "reasoning_content": _THOUGHT}
        try:
            written = self._render([*before, told], generate=False)
        except ValueError:
            written = ""
        found = re.search(f"{_THOUGHT}(.*?){_ANSWER}", written, re.DOTALL)
        if found and self.thoughts.answer(opened + found[1]) is not None:
            return found[1]
        close = next(close for begin, close in self.thoughts.marks if opened.startswith(begin))
        return f"\n{close}\n\n" if opened.endswith("\n") else close

    def opened(self, messages: Sequence[Message] = ASKED) -> str | None:
        """Return the end of the prompt after messages, from where it begins a thought; None where it does not."""
        # What was said may name the marks of thoughts too, or switch them off.
        marked = [*messages[:-1], {**messages[-1], "content": messages[-1]["content"] + _QUESTION}]
        tail = self.prompt(marked).rpartition(_QUESTION)[2]
        marks = self.thoughts.open_in(tail)
        return None if marks is None else tail[tail.rindex(marks[0]) :]

    def ending(self) -> str:
        """Return what the template writes after an answer, "" where it writes none."""
        try:
            return self._around(ASKED)[1]
        except ValueError:
            return ""

    def after_answer(self) -> str:
        """Return what follows an answer when something else is asked, "" where the template cannot write that."""
        told = {"role": "assistant", "content": _ANSWER}
        try:
            written = self._render([*ASKED, told, {"role": "user", "content": _OBSERVATION}], generate=True)
        except ValueError:
            return ""
        return written.partition(_ANSWER)[2]

    def around_question(self) -> tuple[str, str]:
        """Return what stands before and after a question at the start."""
        before, _, after = self.prompt(ASKED).partition(_QUESTION)
        return before, after

    def between(self, observation: str, *, system: bool = False) -> str:
        """Return what the template writes between two answers, around what is said in between.

        Args:
            observation: is said.
            system: the conversation begins with a message of the system.

        Raises:
            ValueError: the template changes earlier text when a turn is added, or cannot write several turns.
        """
        plain = self._plain_between(system)
        if not observation or observation != observation.strip():  # the template may have its way with blanks
            return self._between(observation, system, _THOUGHT)
        return plain.replace(_OBSERVATION, self._shield(observation))

    def _between_any(self, system: bool) -> str:
        """Return what stands around an observation after answers with thoughts of all kinds."""
        answers = [_THOUGHT, *(f"{begin}\n{_THOUGHT}\n{end}\n\nXq7first" for begin, end in self.thoughts.marks)]
        found = [self._between(_OBSERVATION, system, answer) for answer in answers]
        return found[0]

    def _between(self, observation: str, system: bool, answer: str) -> str:
        asked = [*([{"role": "system", "content": _SYSTEM}] if system else []), *ASKED]
        observed = {"role": "user", "content": observation}
        first = [*asked, {"role": "assistant", "content": answer}, observed]
        second = [*first, {"role": "assistant", "content": _ANSWER}, observed]
        after_first = self.prompt(first)
        between = _added(self.prompt(asked), answer, after_first)
        if (
            between is None
            or self._shield(observation).strip() not in between
            or _added(after_first, _ANSWER, self.prompt(second)) != between
        ):
            raise ValueError(
                f"{self.name}: the chat template of this tokenizer changes earlier text when a turn is added (or "
                "drops earlier thoughts), so the tokens that were generated could not be the tokens that are "
                "trained on; use a template that only appends (policy.chat_template=FILE), or an environment "
                "with one answer"
            )
        return between

    def writes(self, messages: Sequence[Message], text: str) -> bool:
        """Whether this is what the template writes for a whole conversation."""
        return self._render(messages, generate=False) == text

    def _render(self, messages: Sequence[Message], *, generate: bool) -> str:
        messages = replace_system(messages, self._system_prompt)
        if self.folds_system:
            messages = _fold_system(messages)
        # What the model said itself may hold special tokens.
        messages = [
            message if message["role"] == "assistant" else {**message, "content": self._shield(message["content"])}
            for message in messages
        ]
        try:
            return str(
                self.tokenizer.apply_chat_template(list(messages), add_generation_prompt=generate, tokenize=False)
            )
        except _TEMPLATE_ERRORS as error:
            roles = ", ".join(message["role"] for message in messages)
            raise ValueError(
                f"{self.name}: the chat template of this tokenizer cannot write a conversation of {roles} ({error}); "
                f"{_MEND}"
            ) from error

    def _keeps_system(self) -> bool:
        """Find whether the template writes a system message; some refuse it, some leave it out."""
        if self._system_prompt == "":
            return True
        asked = [{"role": "system", "content": _SYSTEM}, *ASKED]
        own = _SYSTEM if self._system_prompt is None else self._shield(self._system_prompt).strip()
        try:
            return own in self._render(asked, generate=True)
        except ValueError:
            return False


def replace_system(messages: Sequence[Message], prompt: str | None) -> list[Message]:
    """Return messages with another message of the system at their start; "": without one; None: as they are."""
    if prompt is None:
        return list(messages)
    rest = [message for place, message in enumerate(messages) if place or message["role"] != "system"]
    return [{"role": "system", "content": prompt}, *rest] if prompt else rest


def _added(before: str, answer: str, after: str) -> str | None:
    """Return what ``after`` adds to ``before`` and an answer, None if it is no continuation of them.

    There may be a space before the answer: the model writes it, or does without.
    """
    match = re.fullmatch(f"{re.escape(before)}\\s*{re.escape(answer)}(.*)", after, re.DOTALL)
    return match[1] if match else None


def _fold_system(messages: Sequence[Message]) -> list[Message]:
    """Put a system message at the start of the first user message."""
    if not messages or messages[0]["role"] != "system":
        return list(messages)
    system, *rest = messages
    if not rest or rest[0]["role"] != "user":
        return [{**system, "role": "user"}, *rest]
    return [{**rest[0], "content": f"{system['content']}\n\n{rest[0]['content']}"}, *rest[1:]]


def _short(text: str) -> str:
    """Show a text in an error."""
    return repr(text if len(text) <= 60 else f"{text[:40]}...{text[-15:]}")
