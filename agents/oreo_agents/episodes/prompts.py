"""Messages to tokens and back.

Knows: end-of-turn tokens, what a chat template writes (``templates``), how pieces become tokens (``turn_tokens``).
Does not know: networks, what an environment does.
A transcript is rendered in pieces: the opening once, then what the model generated, untouched, then only the tokens
that the template adds for a new turn.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from hashlib import sha256
from itertools import chain, groupby
from os.path import expanduser
from typing import Any

import gymnasium as gym
import numpy as np
from transformers import PreTrainedTokenizerBase

from oreo_agents.episodes.template_settings import read_template, set_template
from oreo_agents.episodes.templates import ASKED, ChatTemplate, Message, Turn, replace_system
from oreo_agents.episodes.turn_tokens import SHIELD, TurnTokens, steps_of_tokens
from oreo_agents.networks.checkpoints import load_end_tokens, load_tokenizer, tokenizer_fingerprint
from oreo_envs.grading import Thoughts


class PromptFormat(TurnTokens):
    """How one tokenizer writes conversations."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        name: str = "",
        *,
        end_ids: Collection[int] = (),
        system_prompt: str | None = None,
        thoughts: Thoughts | None = None,
    ) -> None:
        """Wrap a tokenizer.

        Args:
            tokenizer: with a chat template, or else each message is written as plain text and a line break.
            name: what to call it in errors, e.g. its folder.
            end_ids: tokens that end a turn beside its own end token and the template's.
            system_prompt: said in place of what environments say as the system; "": nothing; None: what they say.
            thoughts: marks of thoughts; None: those in use, or what an environment was told.

        Raises:
            ValueError: the tokenizer has no end token, or its template cannot write a question.
        """
        super().__init__(tokenizer)
        self.name = name or tokenizer.name_or_path
        self.system_prompt, self.thoughts = system_prompt, thoughts
        if tokenizer.eos_token_id is None:
            raise ValueError(
                f"{self.name}: this tokenizer has no end token (eos_token), so an answer could never end; set one "
                "and save the tokenizer again"
            )
        self.template: ChatTemplate | None = None
        if tokenizer.chat_template:
            self.template = ChatTemplate(
                tokenizer,
                self.name,
                thoughts=thoughts or Thoughts(),
                system_prompt=system_prompt,
                shield=self._shielded,
            )
        self._given_ends = frozenset({int(tokenizer.eos_token_id), *end_ids})
        self.end_ids = self._given_ends | {self.end_of_turn}

    def __deepcopy__(self, memo: dict[int, Any]) -> "PromptFormat":
        """Be shared by copies of a network, which write conversations alike."""
        return self

    def __repr__(self) -> str:
        """One line: whose it is, its size, whether it has a template."""
        template = "a chat template" if self.template is not None else "lines of text"
        return f"PromptFormat({self.name!r}, {len(self.tokenizer)} tokens, {template})"

    @classmethod
    def from_pretrained(
        cls,
        path: str,
        *,
        chat_template: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        system_prompt: str | None = None,
        thoughts: Thoughts | None = None,
        trust_remote_code: bool = False,
    ) -> "PromptFormat":
        """Load the tokenizer of a checkpoint; what its generation configuration ends with ends a turn too.

        Args:
            path: folder or hub name.
            chat_template: path of a Jinja file to use in place of the checkpoint's template.
            chat_template_kwargs: arguments of the template, such as ``enable_thinking``. They are written into the
                template, so that a saved tokenizer has them.
            system_prompt: see the class.
            thoughts: see the class.
            trust_remote_code: run code of the checkpoint that transformers does not have.

        Raises:
            ValueError: there is none at ``path``, or it cannot be used (see the class); no template can be read, or it
                does not read an argument.
        """
        path = expanduser(path)
        tokenizer = load_tokenizer(path, trust_remote_code=trust_remote_code)
        set_template(tokenizer, path, read_template(chat_template), chat_template_kwargs)
        return cls(
            tokenizer,
            path,
            end_ids=load_end_tokens(path),
            system_prompt=system_prompt,
            thoughts=thoughts,
        )

    @cached_property
    def end_of_turn(self) -> int:
        """The token that ends the model's turn, e.g. ``<|im_end|>``."""
        end = int(self.tokenizer.eos_token_id)
        if self.template is None:
            return end
        written = self._mark_at(self.template.ending())
        if written is not None:
            return written
        # Templates may end a turn only when another one follows. A mark that begins what the next speaker says ends a
        # turn only where that is known.
        written = self._mark_at(self.template.after_answer())
        if written is None or (self._begins_question(written) and written not in self._given_ends):
            # The template writes plain text after a turn: the model has to end it with its end token.
            return end
        return written

    @cached_property
    def fingerprint(self) -> str:
        """Identify what decides how text becomes tokens, see ``checkpoints.tokenizer_fingerprint``."""
        found = tokenizer_fingerprint(self.tokenizer)
        if self.system_prompt is None:
            return found
        return sha256(f"{found} {self.system_prompt}".encode()).hexdigest()[:16]

    def opening(self, messages: Sequence[Message]) -> list[int]:
        """Encode the messages before a turn of the model, up to where it begins to speak.

        What it said in earlier turns ends as turns do, with a template or without.
        """
        if self.template is not None:
            return self._encode(self.template.prompt(messages))
        said = next((place for place, each in enumerate(messages) if each["role"] == "assistant"), len(messages))
        text = self._lines(messages[:said])
        if SHIELD in text:
            tokens = [*self.tokenizer("", add_special_tokens=True)["input_ids"], *self._encode(text)]
        else:
            tokens = list(self.tokenizer(text, add_special_tokens=True)["input_ids"])
        for by_model, group in groupby(messages[said:], lambda each: each["role"] == "assistant"):
            texts = [each["content"] for each in group]
            tokens += chain.from_iterable(map(self.reply, texts)) if by_model else self.next_turn("\n".join(texts))
        return tokens

    def next_turn(self, observation: str, *, system: bool = False) -> list[int]:
        """Encode what stands between the end token of one turn of the model and the start of the next.

        Args:
            observation: is said.
            system: the conversation begins with a message of the system.

        Raises:
            ValueError: see ``require_turns``.
        """
        if self.template is None:
            return self._apart(f"\n{self._shielded(observation)}\n", after="a")
        ending, rest = self._cut_ending(self.template.between(observation, system=system))
        return self._apart(rest, after="a") if ending is None else self._encode(self._end_text + rest)[1:]

    def require_turns(self, messages: Sequence[Message] = ()) -> None:
        """Check that the model can speak more than once in a conversation; one answer is always possible.

        Args:
            messages: that open such conversations.

        Raises:
            ValueError: the template changes earlier text when a turn is added, cannot write several turns, or ends
                a turn that others follow with another token than the last one.
        """
        if self.template is not None:
            self._cut_ending(self.template.between("...", system=_has_system(messages)))

    def tell(self, env: gym.Env[str, str], messages: Sequence[Message]) -> None:
        """Tell an environment that was just reset with these messages how a turn's thoughts begin and end."""
        unwrapped: Any = env.unwrapped
        known = self.thoughts or getattr(unwrapped, "thoughts", None) or Thoughts()
        opened = self.template is not None and self.template.opened(messages) is not None
        unwrapped.thoughts = replace(known, opened=opened)

    def reply(self, text: str) -> list[int]:
        """Encode a whole turn that is not sampled, after the prompt: with what the template writes around it.

        Raises:
            ValueError: the template does not say where an answer belongs.
        """
        if self.template is None:
            return [*self._apart(text), self.end_of_turn]
        turn = self._example
        blank, _ = self._cut_ending(turn.ending)
        written = turn.bridge + text + (blank or "")
        own = self._after(turn.prompt, written)
        return [*(self._apart(written) if own is None else own), self.end_of_turn]

    @cached_property
    def lead(self) -> str:
        """The blank that the template writes before an answer: the model says it, and it is no part of the answer."""
        try:
            bridge = "" if self.template is None else self._example.bridge
        except ValueError:
            return ""
        return bridge if bridge.isspace() else ""

    @cached_property
    def _example(self) -> Turn:
        """A turn of which only what stands around it matters."""
        assert self.template is not None
        return self.template.answered([*ASKED, {"role": "assistant", "content": "answer"}])

    def encode_episode(
        self, messages: Sequence[Message], spans: Sequence[Sequence[int]], *, ended: bool = True
    ) -> tuple[list[int], list[int]]:
        """Encode a written conversation whose steps are given by spans (message, start, end) of its text.

        Args:
            messages: the whole conversation.
            spans: one a step, in order; those of one message cover it without gaps.
            ended: the model ended its last turn, so that the end-of-turn token follows it; it always follows the
                turns before. It belongs to the step that it ends.

        Returns:
            tokens and step_id, as in ``Episode``.

        Raises:
            ValueError: this is not what the template writes for the conversation, or it does not say where an answer
                that was not sampled belongs.
        """
        turns: dict[int, list[tuple[int, int]]] = {}
        for message, start, end in spans:
            turns.setdefault(int(message), []).append((int(start), int(end)))
        # Some data sets write the end token as text; it follows anyway.
        said = [
            {**message, "content": message["content"].removesuffix(self._end_text)} if place in turns else message
            for place, message in enumerate(messages[: max(turns) + 1])
        ]
        tokens: list[int] = []
        step_id: list[int] = []
        count = 0
        for (message, places), turn in zip(turns.items(), self._turns(said, list(turns), ended=ended), strict=True):
            content = said[message]["content"]
            start = content.find(turn.text)  # the template may drop blanks around it
            end = start + len(turn.text)
            steps = [content[max(first, start) : max(min(last, end), start)] for first, last in places]
            core, own, numbers = self._encode_turn(turn, steps)
            if tokens:
                before = self._continued(turn.prompt + core)
            else:
                before = self._encode(turn.prompt + core) if core else self.opening(said[:message])
            if message != max(turns) or ended:
                own, numbers = [*own, self.end_of_turn], [*numbers, len(steps) - 1]
            for step in sorted({*range(len(steps))} - {*numbers}):
                # Its text stands in the prompt, such as the mark that begins a thought: it has the next step's first.
                taken = next((i for i, number in enumerate(numbers) if number > step), None)
                if taken is not None and numbers.count(numbers[taken]) > 1:
                    numbers[taken] = step
            tokens += before + own
            step_id += [-1] * len(before) + [count + number for number in numbers]
            count += len(steps)
        return tokens, step_id

    def _turns(self, said: Sequence[Message], places: Sequence[int], *, ended: bool) -> list[Turn]:
        """Write a conversation, cut at the turns of the model; what ends a turn is left out of all but their prompts.

        The prompt of a turn after the first begins with the mark that ended the one before, if it has a mark.
        """
        first, *later = places
        texts = [said[place]["content"] for place in places]
        between = [said[place - 1]["content"] for place in later]
        if self.template is None:
            prompts = [self._lines(said[:first]), *(f"\n{self._shielded(text)}\n" for text in between)]
            return [Turn(prompt, "", text, "") for prompt, text in zip(prompts, texts, strict=True)]
        head = self.template.answered(said[: first + 1], ended=ended or bool(later))
        after = [self.template.between(text, system=_has_system(said)) for text in between]
        if later:
            texts = self._kept_texts(said, head, texts, after)
        prompts, endings = [head.prompt], []
        for written in after:
            ending, rest = self._cut_ending(written)
            endings.append(ending or "")
            prompts.append(rest if ending is None else self._end_text + rest)
        last = self._cut_ending(head.ending)[0] if ended else ""
        texts[0] = head.text
        return [
            Turn(prompt, head.bridge, text, ending)
            for prompt, text, ending in zip(prompts, texts, [*endings, last or ""], strict=True)
        ]

    def _kept_texts(self, said: Sequence[Message], head: Turn, texts: list[str], after: Sequence[str]) -> list[str]:
        """Return what the template keeps of the texts of several turns: it may drop the blanks around them."""
        assert self.template is not None
        for strip in (str, str.rstrip, str.strip):
            kept = [head.text, *map(strip, texts[1:])]
            pieces = [f"{between}{head.bridge}{text}" for between, text in zip(after, kept[1:], strict=True)]
            if self.template.writes(said, head.prompt + head.bridge + "".join([kept[0], *pieces]) + head.ending):
                return kept
        raise ValueError(
            f"{self.name}: the chat template of this tokenizer changes earlier text when a turn is added (or drops "
            "earlier thoughts, or parts of what is said), so that this conversation of several turns is not what it "
            "writes; use a template that only appends (policy.chat_template=FILE)"
        )

    def _encode_turn(self, turn: Turn, steps: Sequence[str]) -> tuple[str, list[int], list[int]]:
        """Encode a turn as a whole, as the model would write it.

        Returns:
            What of the bridge belongs to the prompt: a blank before a word goes with the word, in one token. Then the
            turn's tokens, and the step of each.
        """
        text = "".join([*steps, turn.ending])
        cores = [turn.bridge, turn.bridge.rstrip()]
        if turn.bridge.isspace() and self._after(turn.prompt, turn.bridge) is None:
            del cores[0]  # the blank joins the prompt, which would not be the one that is sampled from
        for core in cores:
            lead = turn.bridge[len(core) :]
            tokens = self._after(turn.prompt + core, lead + text)
            if tokens is not None:
                break
        else:
            tokens = self._apart(lead + text)
        if len(steps) == 1:
            return core, tokens, [0] * len(tokens)
        if tokens and self._text_inside(tokens) == lead + text:
            covered = self.text_ends(tokens, inside=True)
            ends = len(lead) + np.cumsum([len(step) for step in steps])
            numbers = steps_of_tokens(covered, lead + text, ends).tolist()
            if len(set(numbers)) == len(steps):
                return core, tokens, numbers
        # A token covers a whole step, or the tokenizer does not give back its text: encode each step by itself.
        parts, before = [], turn.prompt + core
        for step in [lead + steps[0], *steps[1:-1], steps[-1] + turn.ending]:
            part = self._after(before, step)
            parts.append(self._apart(step) if part is None else part)
            before += step
        return core, [t for part in parts for t in part], [k for k, part in enumerate(parts) for _ in part]

    def _lines(self, messages: Sequence[Message]) -> str:
        """Write messages as lines, where there is no template."""
        return "".join(f"{self._shielded(m['content'])}\n" for m in replace_system(messages, self.system_prompt))

    def _begins_question(self, mark: int) -> bool:
        """Whether a mark begins what the user says, and does not end it too."""
        assert self.template is not None
        before, after = self.template.around_question()
        return mark in self._encode(before) and mark != self._mark_at(after)

    def _cut_ending(self, after: str) -> tuple[str | None, str]:
        """Cut what the template writes after an answer at the end token.

        Returns:
            The blanks before it and what follows; None and everything where there is none.

        Raises:
            ValueError: another token than the last turn's ends a turn.
        """
        assert self.template is not None
        mark = self._mark_at(after)
        if mark == self.end_of_turn:
            rest = after.lstrip()
            return after[: len(after) - len(rest)], rest.removeprefix(self._end_text)
        if mark is not None and not self._begins_question(mark):
            raise ValueError(
                f"{self.name}: the chat template of this tokenizer ends a turn that others follow with "
                f"{self.tokenizer.convert_ids_to_tokens(mark)}, and the last one with {self._end_text}, so what was "
                "generated would not be what it writes; use a template that ends all turns alike "
                "(policy.chat_template=FILE), or an environment with one answer"
            )
        return None, after

    def _continued(self, text: str) -> list[int]:
        """Encode what follows a turn of the model, of which the text may repeat the end token."""
        if self.template is not None and text.startswith(self._end_text):
            return self._encode(text)[1:]
        return self._apart(text, after="a")

    @cached_property
    def _end_text(self) -> str:
        return str(self.tokenizer.convert_ids_to_tokens(self.end_of_turn))


def _has_system(messages: Sequence[Message]) -> bool:
    return bool(messages) and messages[0]["role"] == "system"
