"""The tokens of a turn as text, and text as tokens, a piece at a time.

Knows: one tokenizer, where steps end. Does not know: chat templates, conversations.
A piece of text is encoded as it would be after the text before it, since some tokenizers write the start of a text in
another way.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from transformers import PreTrainedTokenizerBase

from oreo_envs.answers import rest_of_step, split_steps, step_goes_on

SHIELD = "\ue000\uf8ff"
"""Stands for a mark in a text that was said, until it is encoded: private characters, which no text holds."""

# Turns repeat: commands, short answers. So many pieces of text are not encoded twice.
_REMEMBERED = 2**16
# So many tokens before a token may decide what its text is, at least.
_WINDOW = 16
# So many tokens may make one character, or change the text of those before them.
_CHARACTER = 8
# How much text before a piece, characters, may decide how it is encoded.
_CONTEXT = 200
# What a piece may follow when it is not known what it follows: the first after which its tokens stand apart.
_NEUTRAL = ("\n", "a", ".", ")")


class TurnTokens:
    """How one tokenizer writes what is said in a turn."""

    end_ids: frozenset[int]
    """Tokens that end a turn."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Wrap a tokenizer."""
        self.tokenizer = tokenizer
        self._tokens_of = lru_cache(_REMEMBERED)(self._encode_new)

    def encode(self, text: str) -> list[int]:
        """Encode a piece of the model's own text, as it stands inside a turn, without special tokens."""
        return self._apart(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """Decode generated tokens; end tokens leave no text."""
        kept = [int(token) for token in tokens if token not in self.end_ids]
        return str(self.tokenizer.decode(kept, clean_up_tokenization_spaces=False))

    @cached_property
    def _bytes(self) -> frozenset[int]:
        """Tokens that stand for one byte of what is no piece."""
        return frozenset(
            number for piece, number in self.tokenizer.get_vocab().items() if re.fullmatch("<0x[0-9A-F]{2}>", piece)
        )

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
            # The text of a token depends on more than the tokens of its characters: on a few before it, or on all.
            whole = decode(tokens)
            ends = self._ends_by_windows(tokens, whole, inside=inside) or [
                len(decode(tokens[: i + 1])) for i in range(len(tokens))
            ]
        # There may be more replacement characters than the one that they become: never go back.
        return np.minimum.accumulate(ends[::-1])[::-1].astype(int).tolist()

    def _ends_by_windows(self, tokens: Sequence[int], whole: str, *, inside: bool) -> list[int] | None:
        """Return what ``text_ends`` does, each token decoded with those of its window and of the one before it.

        None where that does not give the text back: then it depends on what is further away.
        """
        ends: list[int] = []
        while len(ends) < len(tokens):
            start, known = len(ends), ends[-1] if ends else 0
            # A window may begin inside a character; one that begins a few tokens before does not.
            for first in range(max(start - _WINDOW, 0), max(start - _WINDOW - _CHARACTER, 0) - 1, -1):
                first = self._window_start(tokens, first)
                decode = self._text_inside if first or inside else self.decode
                before = decode(tokens[first:start]) if start else ""
                if whole.startswith(before, known - len(before)):
                    break
            else:
                return None
            for i in range(start, len(tokens)):
                text = decode(tokens[first : i + 1])
                ends.append(known - len(before) + len(text))
                # A block may end inside a character too, or before what changes its end.
                if len(ends) - start >= _WINDOW and whole.startswith(text, ends[-1] - len(text)):
                    break
                if len(ends) - start > _WINDOW + _CHARACTER:
                    return None
        return ends if ends[-1] == len(whole) else None

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
        if not delimiters:
            return [0] * len(tokens), [text]
        ends = np.cumsum([len(step) for step in split_steps(text, tuple(delimiters))])
        covered = self.text_ends(tokens, inside=inside)
        # A token may cover a whole step: number what is left without gaps.
        _, numbers = np.unique(steps_of_tokens(covered, text, ends), return_inverse=True)
        last_tokens = np.flatnonzero(np.diff(numbers, append=numbers[-1] + 1))
        cuts = [covered[i] for i in last_tokens]
        texts = [text[start:end] for start, end in zip([0, *cuts], cuts, strict=False)]
        return numbers.tolist(), texts

    def complete_step(
        self,
        tokens: Sequence[int],
        delimiters: Sequence[str],
        *,
        inside: bool = False,
        begun: "BegunStep | None" = None,
    ) -> int | None:
        """Say whether the newest of these tokens shows that a step, see ``split_steps``, is complete.

        It does when it begins another step, or when any word after it would. Blank space that comes later, in a token
        of its own, then belongs to the next step; that is the only difference to splitting the whole turn. An open
        formula, which may yet be closed, ends no step.

        Args:
            tokens: of the step, and perhaps the first of the next.
            delimiters, inside: see ``split_steps``.
            begun: what is remembered of the step from one call to the next, so that each reads what is new.

        Returns:
            How many tokens the step has: all, or all but the newest; None: the step goes on.
        """
        newest = self._part(tokens[-1:], first=False)
        if not any(delimiter[-1] in newest for delimiter in delimiters):
            return None
        begun = BegunStep() if begun is None else begun
        more = self._text_since(tokens, begun.count, inside=inside)
        text = begun.rest + more if more is not None else self._text_since(tokens, 0, inside=inside) or ""
        if step_goes_on(text, tuple(delimiters)):
            begun.count, begun.rest = len(tokens), rest_of_step(text, tuple(delimiters))
            return None
        numbers, _ = self.split_steps(tokens, delimiters, inside=inside)
        return len(tokens) - (numbers[-1] > numbers[-2:][0])

    def _text_since(self, tokens: Sequence[int], count: int, *, inside: bool) -> str | None:
        """Return the text of the tokens after the first ``count``; None where they change what was before them."""
        first = self._window_start(tokens, max(count - _WINDOW, 0))
        decode = self._text_inside if first or inside else self.decode
        before, whole = decode(tokens[first:count]) if count else "", decode(tokens[first:])
        return whole[len(before) :] if whole.startswith(before) else None

    def _window_start(self, tokens: Sequence[int], first: int) -> int:
        """Bytes beside one another are decoded together: one that completes no character makes all of them none."""
        while first and {tokens[first - 1], tokens[first]} <= self._bytes:
            first -= 1
        return first

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
    def _mark_pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, self._mark_texts)) or "(?!)")

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
        return self._mark_pattern.sub(lambda found: f"{SHIELD}{self._mark_texts.index(found[0])};", text)

    def _mark_at(self, text: str) -> int | None:
        """Return the mark that a text begins with, after blanks; None: it begins with text."""
        tokens = self._encode(text.lstrip())
        return tokens[0] if tokens and tokens[0] in self._marks else None

    def _encode(self, text: str) -> list[int]:
        if SHIELD not in text:
            return list(self._tokens_of(text))
        tokens: list[int] = []
        for place, piece in enumerate(re.split(f"{SHIELD}(\\d+);", text)):
            if place % 2:
                mark = self._mark_texts[int(piece)]
                tokens += self.tokenizer(mark, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            elif piece:
                tokens += self._tokens_of(piece)
        return tokens

    def _encode_new(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _after(self, before: str, text: str) -> list[int] | None:
        """Encode a text as it stands after another; None where its first characters join the last ones before it."""
        before = before[max(before.rfind(SHIELD), 0) :][-_CONTEXT:].rpartition(SHIELD)[2]
        marks = list(self._mark_pattern.finditer(before))
        before = before[marks[-1].start() if marks else 0 :]
        head, whole = self._encode(before), self._encode(before + text)
        return whole[len(head) :] if whole[: len(head)] == head else None

    def _apart(self, text: str, *, after: str = "") -> list[int]:
        """Encode a text as it stands inside another one, joined to nothing before it."""
        alone = self._encode(text)
        if self._text_inside(alone) == text:
            return alone
        for before in (after, *_NEUTRAL) if after else _NEUTRAL:
            tokens = self._after(before, text)
            if tokens is not None:
                return tokens
        return alone


def steps_of_tokens(covered: Sequence[int], text: str, ends: np.ndarray) -> np.ndarray:
    """Return the step of each token of ``text``, see ``TurnTokens.split_steps``.

    Args:
        covered: see ``TurnTokens.text_ends``.
        text: of the tokens.
        ends: after how many characters each step ends.
    """
    places = []
    for start, end in zip([0, *covered], covered, strict=False):
        piece = text[start:end]
        places.append(start + len(piece) - len(piece.lstrip()) if piece.strip() else start)
    return np.searchsorted(ends, places, side="right").clip(max=len(ends) - 1)


@dataclass
class BegunStep:
    """A step that goes on: how many of its tokens were read, and what of their text still matters."""

    count: int = 0
    rest: str = ""


class StepEnd:
    """Says when the tokens of a row, one more at each call, have come to the end of a step.

    Args:
        texts: of the policy's tokenizer.
        delimiters: what ends a step.
        inside: the row goes on inside a turn.
        least: tokens; ends of steps before these are passed over.
    """

    def __init__(self, texts: TurnTokens, delimiters: Sequence[str], inside: bool, least: int = 1) -> None:
        """Begin before the first token."""
        self._texts, self._delimiters, self._inside, self._least = texts, delimiters, inside, least
        self._done = 0
        self._begun = BegunStep()

    def __call__(self, tokens: Sequence[int]) -> int | None:
        """Return how many of the tokens to keep when it is time to stop, else None."""
        length = self._texts.complete_step(
            tokens[self._done :] if self._done else tokens,
            delimiters=self._delimiters,
            inside=self._inside or self._done > 0,
            begun=self._begun,
        )
        if length is None:
            return None
        self._done += length
        self._begun = BegunStep()
        return self._done if self._done >= self._least else None
