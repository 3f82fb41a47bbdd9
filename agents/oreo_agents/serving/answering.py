"""Questions to answers with their values, several at once.

Knows: searches, V along an answer, what both cost. Does not know: HTTP, queues.
What serves by other means (a server of another engine) has the methods of ``Engine``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.sampler import LocalSampler, Sampler
from oreo_agents.episodes.texts import encode_episode
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import StateValue, TokenValue
from oreo_agents.search import Answer, Search
from oreo_agents.serving.conversations import Conversations, Question
from oreo_agents.value_quality.path import ValuePath, read_paths
from oreo_algos.episode import Episode
from oreo_envs.answers import split_steps
from oreo_envs.messages import Message


@dataclass(frozen=True)
class Step:
    """A part of an answer.

    Attributes:
        text: as it was said; the steps of an answer add up to it.
        value: V after it, of the last one just before its end token, reward units; None: nobody reads V.
        advantage: by how much V rose with it.
        message: which message of the conversation it is part of.
    """

    text: str
    value: float | None = None
    advantage: float | None = None
    message: int = -1


@dataclass(frozen=True)
class Option:
    """An answer that might have been given.

    Attributes:
        text: of it, without the stop that ended it.
        value: V by which it was judged, reward units; None where V was not read.
        chosen: it is the answer.
        votes: how often it came up.
        score: the number that it was chosen by, such as V + tau log pi; None: there is none.
    """

    text: str
    value: float | None = None
    chosen: bool = False
    votes: int = 1
    score: float | None = None


@dataclass(frozen=True)
class Reply:
    """An answer, and what led to it.

    Attributes:
        text: without the stop that ended it.
        finished: the policy ended it, or a stop did; False: the limit on tokens.
        steps: of the answer.
        start_value: V before the first of them.
        candidates: what the search chose from, the answer among them.
        prompt_tokens: that the policy read before the answer.
        answer_tokens: of the answer, its end token included.
        generated: tokens drawn for it, with those of candidates that were not chosen.
        value_tokens: tokens that the value network read for it, the values of ``steps`` included.
        token_logprobs: text and log-probability, nats, of each token of the answer, at the temperature it was drawn at.
        episode: the answer as an episode without a reward.
    """

    text: str
    finished: bool
    steps: tuple[Step, ...]
    start_value: float | None
    candidates: tuple[Option, ...]
    prompt_tokens: int
    answer_tokens: int
    generated: int
    value_tokens: int
    token_logprobs: tuple[tuple[str, float], ...]
    episode: Episode

    def __repr__(self) -> str:
        """One line: the answer, V at its end, tokens."""
        text = self.text if len(self.text) <= 60 else f"{self.text[:57]}..."
        value = self.steps[-1].value if self.steps else None
        of = f", of {len(self.candidates)} candidates" if len(self.candidates) > 1 else ""
        worth = "" if value is None else f", V={value:.3f}"
        return f"Reply({text!r}, {len(self.steps)} steps{worth}{of}, {self.generated} tokens)"


@dataclass(frozen=True)
class Valued:
    """V along a conversation: before the first step of the assistant, and after each."""

    start_value: float
    steps: tuple[Step, ...]
    tokens: int


class Engine(Protocol):
    """What a server asks of whatever holds the networks; one thread calls ``answer`` and ``values``."""

    context: int
    """Longest transcript, tokens."""
    has_value: bool

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Return a conversation as the policy reads it before its answer; from any one thread at a time."""
        ...

    def encode_text(self, text: str) -> list[int]:
        """Return a text to be continued."""
        ...

    def unfit(self, search: Search) -> str | None:
        """Say why a search cannot answer here; None: it can."""
        ...

    def answer(self, search: Search, questions: Sequence[Question]) -> list[Reply]:
        """Answer questions in one batch."""
        ...

    def values(self, conversations: Sequence[Sequence[Message]]) -> list[Valued]:
        """Read V along what the assistant said."""
        ...


class LocalEngine:
    """A policy and perhaps its value in this process."""

    def __init__(
        self,
        policy: CausalPolicy,
        prompt_format: PromptFormat,
        value: TokenValue | None = None,
        *,
        delimiters: Sequence[str] = ("\n",),
        ends_at_answer: bool = False,
        batch_size: int = 64,
        front: PromptFormat | None = None,
        sampler: Sampler | None = None,
        judge: StateValue | None = None,
    ) -> None:
        """Take the networks.

        Args:
            policy: answers.
            prompt_format: of its tokenizer.
            value: judges; None: searches that read V are refused.
            delimiters: texts that end a step.
            ends_at_answer: the line of a final answer (``#### 5``, a closed box) ends an answer, as in the tasks that
                ask for one.
            batch_size: rows generated, or read, together.
            front: the same format once more, for the thread that encodes while another one answers: a tokenizer
                serves one thread at a time. None: there is one thread.
            sampler: draws from the policy; None: this process does.
            judge: reads V for searches; None: ``value`` does.

        Raises:
            ValueError: no delimiters.
        """
        if not delimiters or isinstance(delimiters, str) or not all(delimiters):
            raise ValueError(f"steps of an answer end with a list of texts such as a line break, got {delimiters!r}")
        self.policy, self.prompt_format, self.value = policy, prompt_format, value
        self.delimiters, self.ends_at_answer, self.batch_size = tuple(delimiters), ends_at_answer, batch_size
        self._front = front or prompt_format
        self.sampler: Sampler = LocalSampler(policy) if sampler is None else sampler
        self._judge = value if judge is None else judge
        self.context, self.has_value = self.sampler.max_length, value is not None

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Return a conversation as the policy reads it before its answer.

        Raises:
            ValueError: the chat template cannot write it.
        """
        return list(self._front.opening(messages))

    def encode_text(self, text: str) -> list[int]:
        """Return a text as tokens, special ones included where it names them."""
        return [int(token) for token in self._front.tokenizer(text)["input_ids"]]

    def unfit(self, search: Search) -> str | None:
        """Say why a search cannot answer here."""
        if search.needs_value and self.value is None:
            return "it reads V, and there is no value network here (value.path)"
        if getattr(search, "lookahead", False):
            return "lookahead=true reads V after the environment has answered, and nobody knows what a user will say"
        if _in_turns(search):
            try:
                self._front.require_turns()
            except ValueError as error:
                return str(error)
        return None

    def answer(self, search: Search, questions: Sequence[Question]) -> list[Reply]:
        """Answer questions side by side.

        Raises:
            ValueError: see ``unfit``, or a prompt that fills the context.
        """
        if (reason := self.unfit(search)) is not None:
            raise ValueError(f"{type(search).__name__}: {reason}")
        player = Conversations(
            questions,
            self.policy,
            self.prompt_format,
            # A search over actions chooses whole turns.
            delimiters=() if _in_turns(search) else self.delimiters,
            ends_at_answer=self.ends_at_answer,
            value=self._judge,
            sampler=self.sampler,
            batch_size=self.batch_size,
        )
        answers = [answer for answer in search.answer(player) if answer is not None]
        assert len(answers) == len(questions)
        paths: Sequence[ValuePath | None] = [None] * len(answers)
        if self.value is not None:
            paths = read_paths(self.value, [answer.episode for answer in answers], self.batch_size)
        found = []
        for question, answer, path in zip(questions, answers, paths, strict=True):
            episode = answer.episode
            text = _said(episode)
            end = question.end(text)
            found.append(
                Reply(
                    text=text[:end],
                    finished=episode.terminated,
                    steps=_cut(_steps(episode, path), end),
                    start_value=None if path is None else float(path.values[0]),
                    candidates=_options(answer, question),
                    prompt_tokens=len(question.tokens),
                    answer_tokens=episode.num_action_tokens,
                    generated=answer.tokens,
                    value_tokens=answer.value_tokens + (0 if path is None else episode.num_tokens),
                    token_logprobs=self._logprobs(episode, len(text) if end is None else end),
                    episode=episode,
                )
            )
        return found

    def values(self, conversations: Sequence[Sequence[Message]]) -> list[Valued]:
        """Read V along what the assistant said.

        Raises:
            ValueError: there is no value network, the assistant says nothing, or the chat template cannot write it.
        """
        if self.value is None:
            raise ValueError("V is read by a value network, and there is none here (value.path)")
        episodes = [self._episode(messages) for messages in conversations]
        paths = read_paths(self.value, episodes, self.batch_size)
        return [
            Valued(float(path.values[0]), _steps(episode, path), episode.num_tokens)
            for episode, path in zip(episodes, paths, strict=True)
        ]

    def _episode(self, messages: Sequence[Message]) -> Episode:
        spans = []
        for number, message in enumerate(messages):
            if message["role"] == "assistant":
                start = 0
                for step in split_steps(message["content"], self.delimiters):
                    spans.append((number, start, start + len(step)))
                    start += len(step)
        if not spans:
            raise ValueError("V is said of what the assistant says: give at least one message of the assistant")
        written = Episode(
            tokens=np.zeros(0, np.int32),
            step_id=np.zeros(0, np.int32),
            rewards=np.zeros(len(spans), np.float32),
            action_spans=np.array(spans, np.int32),
            terminated=True,
            truncated=False,
            task_id="conversation",
            env_id="Conversation-v0",
            messages=[dict(message) for message in messages[: spans[-1][0] + 1]],
        )
        episode = encode_episode(written, self.prompt_format)
        if episode.num_tokens > self.policy.max_length:
            raise ValueError(
                f"this conversation has {episode.num_tokens} tokens, and the context is {self.policy.max_length}"
            )
        return episode

    def _logprobs(self, episode: Episode, length: int) -> tuple[tuple[str, float], ...]:
        """Return the text of each token up to ``length`` characters, and its log-probability."""
        own = episode.step_id >= 0
        tokens = episode.tokens[own].tolist()
        assert episode.behavior_logprobs is not None
        numbers = episode.behavior_logprobs[own].tolist()
        text, ends = self.prompt_format.decode(tokens), self.prompt_format.text_ends(tokens)
        lead = len(text) - len(_said(episode))
        starts = [0, *ends][: len(ends)]
        return tuple(
            (text[max(start, lead) : min(end, lead + length)], number)
            for token, start, end, number in zip(tokens, starts, ends, numbers, strict=True)
            if token not in self.prompt_format.end_ids and start < lead + length
        )


def _in_turns(search: Search) -> bool:
    """Whether a search is made for tasks that are played turn by turn only."""
    return search.unfit(played=False) is not None


def _said(episode: Episode) -> str:
    return episode.messages[-1]["content"]


def _steps(episode: Episode, path: ValuePath | None) -> tuple[Step, ...]:
    assert episode.action_spans is not None
    found = []
    for k, (message, start, end) in enumerate(episode.action_spans.tolist()):
        text = episode.messages[message]["content"][start:end]
        if path is None:
            found.append(Step(text, message=message))
        else:
            found.append(Step(text, float(path.values[k + 1]), float(path.advantages[k]), message))
    return tuple(found)


def _cut(steps: tuple[Step, ...], end: int | None) -> tuple[Step, ...]:
    """Leave out what stands after a stop."""
    if end is None:
        return steps
    kept, start = [], 0
    for step in steps:
        if start < end:
            kept.append(Step(step.text[: end - start], step.value, step.advantage, step.message))
        start += len(step.text)
    return tuple(kept)


def _options(answer: Answer, question: Question) -> tuple[Option, ...]:
    """Return what an answer was chosen from: whole answers, or the proposals of its one turn."""
    said = _said(answer.episode)
    if answer.turns:
        first = next(k for k, proposal in enumerate(answer.turns[-1]) if proposal.text == said)
        proposed = enumerate(answer.turns[-1])
        return tuple(
            Option(one.text[: question.end(one.text)], one.value, k == first, one.votes, one.score)
            for k, one in proposed
        )
    if not answer.candidates:
        return (Option(said[: question.end(said)], chosen=True),)
    texts = [_said(candidate.episode) for candidate in answer.candidates]
    return tuple(
        Option(text[: question.end(text)], candidate.value, candidate.episode is answer.episode, score=candidate.score)
        for text, candidate in zip(texts, answer.candidates, strict=True)
    )
