"""Messages to tokens and back: the only user of a tokenizer.

Knows: chat templates, end-of-turn tokens, which token ends a step. Does not know: networks, environments.
A transcript is rendered in pieces: the opening once, then what the model generated, untouched, then only the tokens
that the template adds for a new turn.
"""

import re
from collections.abc import Collection, Sequence
from functools import cached_property, lru_cache

import numpy as np
from jinja2 import TemplateError
from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from oreo_agents.networks.checkpoints import tokenizer_fingerprint
from oreo_envs.answers import FORMULA_ENDS, split_steps

Message = dict[str, str]

# Stand-ins for what is said, to find the template's own text around it. Some templates drop old thoughts.
_SYSTEM, _OBSERVATION, _ANSWER = "Xq7system", "Xq7observation", "Xq7answer"
_THOUGHTFUL_ANSWER = "<think>\nXq7thought\n</think>\n\nXq7first"
# Stands for a mark in a text that was said, until it is encoded: private characters, which no text holds.
_SHIELD = "\ue000\uf8ff"
_QUESTION: tuple[Message, ...] = ({"role": "user", "content": "question"},)

# Turns repeat: commands, short answers. So many pieces of text are not encoded twice.
_REMEMBERED = 2**16


class PromptFormat:
    """How one tokenizer writes conversations."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, name: str = "", *, end_ids: Collection[int] = ()) -> None:
        """Wrap a tokenizer.

        Args:
            tokenizer: with a chat template, or else each message is written as plain text and a line break.
            name: what to call it in errors, e.g. its folder.
            end_ids: tokens that end a turn beside its own end token and the template's.

        Raises:
            ValueError: the tokenizer has no end token, or its template cannot write a question.
        """
        self.tokenizer = tokenizer
        self._tokens_of = lru_cache(_REMEMBERED)(self._encode_new)
        self.name = name or tokenizer.name_or_path
        if tokenizer.eos_token_id is None:
            raise ValueError(
                f"{self.name}: this tokenizer has no end token (eos_token), so an answer could never end; set one "
                "and save the tokenizer again"
            )
        self._folds_system = False
        if tokenizer.chat_template:
            self._folds_system = not self._template_keeps_system()
            self.opening(_QUESTION)
        self.end_ids = frozenset({int(tokenizer.eos_token_id), self.end_of_turn, *end_ids})

    @classmethod
    def from_pretrained(cls, path: str) -> "PromptFormat":
        """Load the tokenizer of a checkpoint; what its generation configuration ends with ends a turn too.

        Raises:
            ValueError: there is none at ``path``, or it cannot be used (see the class).
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(path)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{path}: no tokenizer can be read there ({error}); save it beside the model with save_pretrained"
            ) from error
        try:
            ends = GenerationConfig.from_pretrained(path).eos_token_id
        except OSError:  # there is none
            ends = None
        return cls(tokenizer, path, end_ids=ends if isinstance(ends, list) else [] if ends is None else [ends])

    @cached_property
    def end_of_turn(self) -> int:
        """The token that ends the model's turn, e.g. ``<|im_end|>``."""
        if not self.tokenizer.chat_template:
            return int(self.tokenizer.eos_token_id)
        try:
            text = self._render([*_QUESTION, {"role": "assistant", "content": _ANSWER}], generate=False)
        except ValueError:
            # The template writes no answers: nothing is known but the end token.
            return int(self.tokenizer.eos_token_id)
        tokens = self._encode(text.rpartition(_ANSWER)[2].lstrip())
        if not tokens or tokens[0] not in self._marks:
            # The template writes plain text after a turn: the model has to end it with its end token.
            return int(self.tokenizer.eos_token_id)
        return int(tokens[0])

    @cached_property
    def fingerprint(self) -> str:
        """Identify what decides how text becomes tokens, see ``checkpoints.tokenizer_fingerprint``."""
        return tokenizer_fingerprint(self.tokenizer)

    def opening(self, messages: Sequence[Message]) -> list[int]:
        """Encode the messages before the model's first turn, up to where it begins to speak."""
        if self.tokenizer.chat_template:
            return self._encode(self._render(messages, generate=True))
        text = "".join(f"{self._shielded(message['content'])}\n" for message in messages)
        if _SHIELD in text:
            return [*self.tokenizer("", add_special_tokens=True)["input_ids"], *self._encode(text)]
        return self.tokenizer(text, add_special_tokens=True)["input_ids"]

    def next_turn(self, observation: str) -> list[int]:
        """Encode what stands between the end token of one turn of the model and the start of the next.

        Raises:
            ValueError: see ``require_turns``.
        """
        if not self.tokenizer.chat_template:
            return self._encode(f"\n{self._shielded(observation)}\n")
        between = self._between.replace(_OBSERVATION, self._shielded(observation))
        # Some templates write a space before the end of a turn, which the model need not.
        tokens = self._encode(between.lstrip())
        return tokens[1:] if tokens[:1] == [self.end_of_turn] else self._encode(between)

    def require_turns(self) -> None:
        """Check that the model can speak more than once in a conversation; one answer is always possible.

        Raises:
            ValueError: the template changes earlier text when a turn is added, or cannot write several turns.
        """
        if self.tokenizer.chat_template:
            _ = self._between

    def encode(self, text: str) -> list[int]:
        """Encode a piece of the model's own text, without special tokens."""
        return self._encode(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """Decode generated tokens; end tokens leave no text."""
        kept = [int(token) for token in tokens if token not in self.end_ids]
        return str(self.tokenizer.decode(kept, clean_up_tokenization_spaces=False))

    def text_ends(self, tokens: Sequence[int], *, inside: bool = False) -> list[int]:
        """Return, for each token, how many characters of the decoded text it and those before it cover.

        ``inside``: see ``split_steps``.
        """
        ends: list[int] = []
        parts: list[str] = []
        length = 0
        run: list[int] = []
        for token in tokens:
            run.append(int(token))
            part = self._part(run, first=not parts and not inside)
            ends.append(length + len(part))
            # A character of several tokens decodes to replacement characters until it is complete.
            if not part.endswith("\ufffd") or len(ends) == len(tokens):
                parts.append(part)
                length += len(part)
                run = []
        decode = self._text_inside if inside else self.decode
        if "".join(parts) != decode(tokens):
            # The text of a token depends on more than the tokens of its characters: decode every prefix.
            ends = [len(decode(tokens[: i + 1])) for i in range(len(tokens))]
        # There may be more replacement characters than the one that they become: never go back.
        return np.minimum.accumulate(ends[::-1])[::-1].astype(int).tolist()

    def split_steps(
        self, tokens: Sequence[int], delimiters: Sequence[str], *, inside: bool = False
    ) -> tuple[list[int], list[str]]:
        """Split a generated turn into steps, as ``oreo_envs.answers.split_steps`` does, at tokens.

        A token belongs to the step of its first character that is not blank, so that a space before a word goes with
        the word; the end token belongs to the last step.

        Args:
            tokens: of the turn, or of a part of it that begins with a step.
            delimiters: texts that end a step.
            inside: other tokens of the turn stand before these. Some tokenizers drop the space of the first word.

        Returns:
            The step of each token, 0 to K - 1, and the K texts, which add up to the decoded turn.
        """
        text = self._text_inside(tokens) if inside else self.decode(tokens)
        ends = np.cumsum([len(step) for step in split_steps(text, tuple(delimiters))])
        covered = self.text_ends(tokens, inside=inside)
        # A token may cover a whole step: number what is left without gaps.
        _, numbers = np.unique(_steps_of_tokens(covered, text, ends), return_inverse=True)
        last_tokens = np.flatnonzero(np.diff(numbers, append=numbers[-1] + 1))
        cuts = [covered[i] for i in last_tokens]
        texts = [text[start:end] for start, end in zip([0, *cuts], cuts, strict=False)]
        return numbers.tolist(), texts

    def complete_step(self, tokens: Sequence[int], delimiters: Sequence[str], *, inside: bool = False) -> int | None:
        """Say whether the newest of these tokens shows that a step, see ``split_steps``, is complete.

        It does when it begins another step, or when any word after it would. Blank space that comes later, in a token
        of its own, then belongs to the next step; that is the only difference to splitting the whole turn. An open
        formula, which may yet be closed, ends no step.

        Returns:
            How many tokens the step has: all, or all but the newest; None: the step goes on.
        """
        newest = self._part(tokens[-1:], first=False)
        if not any(delimiter[-1] in newest for delimiter in delimiters):
            return None
        text = self._text_inside(tokens) if inside else self.decode(tokens)
        if any(len(split_steps(f"{text}x{close}", tuple(delimiters))) == 1 for close in ("", *FORMULA_ENDS)):
            return None
        numbers, _ = self.split_steps(tokens, delimiters, inside=inside)
        return len(tokens) - (numbers[-1] > numbers[-2:][0])

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
        """
        turns: dict[int, list[tuple[int, int]]] = {}
        for message, start, end in spans:
            turns.setdefault(int(message), []).append((int(start), int(end)))
        first, last = min(turns), max(turns)
        tokens = self.opening(messages[:first])
        step_id = [-1] * len(tokens)
        count = 0
        for message, steps in turns.items():
            if message != first:
                between = self.next_turn(messages[message - 1]["content"])
                tokens += between
                step_id += [-1] * len(between)
            texts = [messages[message]["content"][start:end] for start, end in steps]
            # Some data sets write the end token as text; it follows anyway.
            own, numbers = self._encode_turn([*texts[:-1], texts[-1].removesuffix(self._end_text)])
            if message != last or ended:
                own, numbers = [*own, self.end_of_turn], [*numbers, len(steps) - 1]
            tokens += own
            step_id += [count + number for number in numbers]
            count += len(steps)
        return tokens, step_id

    def _encode_turn(self, steps: Sequence[str]) -> tuple[list[int], list[int]]:
        """Encode a turn as a whole, as the model would write it; returns tokens and the step of each."""
        text = "".join(steps)
        tokens = self._encode(text)
        if len(steps) == 1:
            return tokens, [0] * len(tokens)
        if tokens and self.decode(tokens) == text:
            covered = self.text_ends(tokens)
            numbers = _steps_of_tokens(covered, text, np.cumsum([len(step) for step in steps])).tolist()
            if len(set(numbers)) == len(steps):
                return tokens, numbers
        # A token covers a whole step, or the tokenizer does not give back its text: encode each step by itself.
        parts = [self._encode(step) for step in steps]
        return [t for part in parts for t in part], [k for k, part in enumerate(parts) for _ in part]

    def _part(self, run: Sequence[int], *, first: bool) -> str:
        """Return the text of a few tokens, at the start of a turn or inside it."""
        if first:
            # Some tokenizers drop the space of the first word.
            return self.decode(run)
        if len(run) > 1:
            return self._text_inside(run)
        if run[0] not in self._pieces:
            self._pieces[run[0]] = self._text_inside(run)
        return self._pieces[run[0]]

    def _text_inside(self, run: Sequence[int]) -> str:
        before = self._encode("a")[-1:]
        return self.decode([*before, *run])[len(self.decode(before)) :]

    @cached_property
    def _pieces(self) -> dict[int, str]:
        """Texts of single tokens inside a turn."""
        return {}

    @cached_property
    def _marks(self) -> frozenset[int]:
        """Tokens that stand outside the vocabulary of text, e.g. those that a template writes."""
        return frozenset([*self.tokenizer.all_special_ids, *self.tokenizer.added_tokens_decoder])

    @cached_property
    def _end_text(self) -> str:
        return str(self.tokenizer.decode([self.end_of_turn]))

    @cached_property
    def _mark_texts(self) -> list[str]:
        """How special tokens are written, the longest first; other added tokens, such as ``<think>``, are text."""
        added = self.tokenizer.added_tokens_decoder.items()
        marks = {*self.tokenizer.all_special_ids, *(mark for mark, token in added if token.special)}
        texts = {str(self.tokenizer.convert_ids_to_tokens(mark)) for mark in marks}
        return sorted(texts, key=lambda text: (-len(text), text))

    def _shielded(self, text: str) -> str:
        """Return a text that was said with its marks, such as ``<|im_end|>``, replaced, so that they stay text."""
        if not any(mark in text for mark in self._mark_texts):
            return text
        pattern = "|".join(map(re.escape, self._mark_texts))
        return re.sub(pattern, lambda found: f"{_SHIELD}{self._mark_texts.index(found[0])};", text)

    def _encode(self, text: str) -> list[int]:
        if _SHIELD not in text:
            return list(self._tokens_of(text))
        tokens: list[int] = []
        for place, piece in enumerate(re.split(f"{_SHIELD}(\\d+);", text)):
            if place % 2:
                mark = self._mark_texts[int(piece)]
                tokens += self.tokenizer(mark, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            elif piece:
                tokens += self._tokens_of(piece)
        return tokens

    def _encode_new(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _render(self, messages: Sequence[Message], *, generate: bool) -> str:
        if self._folds_system:
            messages = _fold_system(messages)
        # What the model said itself may hold special tokens.
        messages = [
            message if message["role"] == "assistant" else {**message, "content": self._shielded(message["content"])}
            for message in messages
        ]
        try:
            return str(
                self.tokenizer.apply_chat_template(list(messages), add_generation_prompt=generate, tokenize=False)
            )
        except TemplateError as error:
            roles = ", ".join(message["role"] for message in messages)
            raise ValueError(
                f"{self.name}: the chat template of this tokenizer cannot write a conversation of {roles} ({error}); "
                "use another template (set tokenizer.chat_template)"
            ) from error

    def _template_keeps_system(self) -> bool:
        """Find whether the template writes a system message; some refuse it, some leave it out."""
        try:
            return _SYSTEM in self._render([{"role": "system", "content": _SYSTEM}, *_QUESTION], generate=True)
        except ValueError:
            return False

    @cached_property
    def _between(self) -> str:
        """What the template writes between two turns of the model, around an observation.

        Raises:
            ValueError: see ``require_turns``.
        """
        observed = {"role": "user", "content": _OBSERVATION}
        first = [*_QUESTION, {"role": "assistant", "content": _THOUGHTFUL_ANSWER}, observed]
        second = [*first, {"role": "assistant", "content": _ANSWER}, observed]
        after_first = self._render(first, generate=True)
        between = _added(self._render(_QUESTION, generate=True), _THOUGHTFUL_ANSWER, after_first)
        if (
            between is None
            or _OBSERVATION not in between
            or _added(after_first, _ANSWER, self._render(second, generate=True)) != between
        ):
            raise ValueError(
                f"{self.name}: the chat template of this tokenizer changes earlier text when a turn is added (or "
                "drops earlier thoughts), so the tokens that were generated could not be the tokens that are "
                "trained on; use a template that only appends (set tokenizer.chat_template), or an environment "
                "with one answer"
            )
        return between


def _steps_of_tokens(covered: Sequence[int], text: str, ends: np.ndarray) -> np.ndarray:
    """Return the step of each token of ``text``, see ``PromptFormat.split_steps``.

    Args:
        covered: see ``PromptFormat.text_ends``.
        text: of the tokens.
        ends: after how many characters each step ends.
    """
    places = []
    for start, end in zip([0, *covered], covered, strict=False):
        piece = text[start:end]
        places.append(start + len(piece) - len(piece.lstrip()) if piece.strip() else start)
    return np.searchsorted(ends, places, side="right").clip(max=len(ends) - 1)


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
