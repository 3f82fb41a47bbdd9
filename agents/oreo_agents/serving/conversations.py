"""Conversations that nobody grades, as tasks of a player, so that every search answers them.

Knows: one question each, with its own seed, limit and stops. Does not know: HTTP, which search answers.
What a question is answered with depends on the question alone: its rows draw from their own sources.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec

from oreo_agents.episodes.generate import Sample, Sampling, Stop
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.record import Record
from oreo_agents.episodes.sampler import Sampler
from oreo_agents.episodes.sources import row_source
from oreo_agents.episodes.turn_tokens import BegunStep, StepEnd
from oreo_agents.networks.kv_cache import Prefix
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import StateValue, readings
from oreo_agents.search import Player
from oreo_algos.episode import Episode
from oreo_envs.base import Opening, Outcome, TextEnv
from oreo_envs.grading import Thoughts, canonical, end_of_answer, extract_answer
from oreo_envs.messages import Message

OnStep = Callable[[str, float | None], None]
"""Told the answer so far, whenever a step of it is complete, and V there; None without a value network."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is to be answered.

    Attributes:
        messages: the conversation up to the answer.
        tokens: the same, as the policy reads it.
        seed: of everything that is drawn for the answer, >= 0.
        task: number of the task that this is for who draws with the same seed, >= 0.
        max_tokens: of the answer, at least 1.
        stops: texts that end the answer, which then stands before them.
        commands: what may be said, where nothing else may.
        raw: ``tokens`` are no conversation but a text to continue.
        cancelled: whether nobody waits any more.
        on_step: hears an answer that is not chosen among others as it grows.
    """

    messages: tuple[Message, ...]
    tokens: tuple[int, ...]
    seed: int = 0
    task: int = 0
    max_tokens: int = 256
    stops: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    raw: bool = False
    cancelled: Callable[[], bool] = lambda: False
    on_step: OnStep | None = None

    def end(self, text: str) -> int | None:
        """Return where the first stop in a text begins; None: there is none."""
        found = [place for stop in self.stops if (place := text.find(stop)) >= 0]
        return min(found, default=None)


class ConversationEnv(TextEnv):
    """One question: an answer of steps, or one turn where ``delimiters`` is empty; there is no reward."""

    splits = ("served",)
    held_out_splits = ()

    def __init__(self, question: Question, delimiters: Sequence[str], *, ends_at_answer: bool = False) -> None:
        """Take the question; with ``ends_at_answer`` a final answer ends the response, as in an ``AnswerEnv``."""
        super().__init__(split="served", max_steps=None, max_chars=2**40)
        self.question, self.ends_at_answer = question, ends_at_answer
        self.step_delimiters = tuple(delimiters)  # type: ignore[misc]
        self.spec = EnvSpec("Conversation-v0")

    @property
    def num_tasks(self) -> int:
        """One."""
        return 1

    def _open(self, index: int) -> Opening:
        messages = self.question.messages
        return Opening("conversation", messages[-1]["content"] if messages else "", messages)

    def _index_of(self, task_id: str) -> int | None:
        return None

    def _respond(self, action: str) -> Outcome:
        text = self._messages[-1]["content"]
        question, turn = self.question, not self.step_delimiters
        said = question.end(text) is not None or (self.ends_at_answer and self.states_answer(text))
        if action and not turn and not said and not question.cancelled():
            return Outcome()
        return Outcome(terminated=True, info={"answer": extract_answer(self.thoughts.answer(text) or "")})

    def _info(self, extra: Any) -> dict[str, Any]:
        commands = {"admissible_commands": self.question.commands} if self.question.commands else {}
        return super()._info({**commands, **extra})

    def states_answer(self, text: str) -> bool:
        """Whether a line of a response states its final answer."""
        return end_of_answer(text, self.thoughts) is not None

    def action_text(self, command: str) -> str:
        """Say a command as it is."""
        return command


class Conversations(Player):
    """A policy at several questions at once, each with its own seed, limit and stops."""

    def __init__(
        self,
        questions: Sequence[Question],
        policy: CausalPolicy,
        prompt_format: PromptFormat,
        *,
        delimiters: Sequence[str],
        ends_at_answer: bool = False,
        value: StateValue | None = None,
        sampler: Sampler | None = None,
        batch_size: int = 128,
    ) -> None:
        """Draw nothing yet.

        Args:
            questions: to answer.
            policy: answers.
            prompt_format: of its tokenizer.
            delimiters: texts that end a step; none: an answer is one turn.
            ends_at_answer: the line of a final answer ends an answer.
            value: for the searches that need one, and for what is told of steps as they come.
            sampler: draws from the policy; None: this process does.
            batch_size: rows generated, or read, together.
        """
        self.questions, self.delimiters, self.ends_at_answer = questions, tuple(delimiters), ends_at_answer
        self._thoughts: dict[int, Thoughts] = {}
        limits = Sampling(max_new_tokens=max(q.max_tokens for q in questions), batch_size=batch_size)
        super().__init__(
            self._no_env, policy, prompt_format, range(len(questions)), limits, seed=0, value=value, sampler=sampler
        )

    @staticmethod
    def _no_env() -> ConversationEnv:
        raise AssertionError("each question has an environment of its own")

    @property
    def _form(self) -> Callable[[str], str]:
        """Answers are compared as in mathematics."""
        return canonical

    def begin(self) -> Iterator[list[Record]]:
        """Yield the questions, ``batch_size`` of them at a time."""
        size = self.sampling.batch_size
        for start in range(0, len(self.questions), size):
            yield [self._record(slot) for slot in range(start, min(start + size, len(self.questions)))]

    def source_at(self, slot: int, *place: int) -> np.random.Generator:
        """Return the randomness of one place in the search, as in a player of the question's seed at its task."""
        return row_source(self.questions[slot].seed, self.questions[slot].task, *place)

    def samples(self, count: int, temperature: float, constrained: bool = False) -> list[list[Episode]]:
        """Draw ``count`` answers to each question."""
        key = (count, temperature, constrained)
        if key not in self._samples:
            slots = [slot for slot in range(len(self.questions)) for _ in range(count)]
            records = [self._record(slot) for slot in slots]
            sources = [self.source_at(slot, i % count) if temperature else None for i, slot in enumerate(slots)]
            self._play(records, temperature, sources, constrained, told=count == 1)
            drawn = [self.end(record, temperature) for record in records]
            self._samples[key] = [drawn[start : start + count] for start in range(0, len(drawn), count)]
        return self._samples[key]

    def _play(
        self,
        records: Sequence[Record],
        temperature: float,
        sources: Sequence[np.random.Generator | None],
        constrained: bool,
        told: bool,
    ) -> None:
        running = list(zip(records, sources, strict=True))
        while running:
            samples = self._generate(
                [record for record, _ in running],
                temperature,
                [source for _, source in running],
                [self._stop(record, one_step=False, told=told) for record, _ in running],
                constrained,
            )
            for (record, _), sample in zip(running, samples, strict=True):
                record.advance(sample, self.prompt_format, self.sampler.max_length)
            running = [(record, source) for record, source in running if not record.over]

    def continue_turns(
        self,
        records: Sequence[Record],
        temperature: float,
        sources: Sequence[np.random.Generator | None],
        *,
        one_step: bool,
        least: int = 1,
        most: int | None = None,
    ) -> list[Sample]:
        """Say how each answer may go on, see ``Player``."""
        stops = [self._stop(record, one_step=one_step, told=False, least=least) for record in records]
        return self._generate(records, temperature, sources, stops, constrained=False, most=most)

    def left(self, record: Record) -> int:
        """Return what the question's own limit leaves, see ``Player``; nothing where it is to stop."""
        question = self.questions[record.slot]
        if question.cancelled() or self._said_stop(question, record.tokens[record.turn_start :]):
            return 0
        return min(self.questions[record.slot].max_tokens - record.spoken, super().left(record))

    def _generate(
        self,
        records: Sequence[Record],
        temperature: float,
        sources: Sequence[np.random.Generator | None],
        stops: Sequence[Stop],
        constrained: bool,
        most: int | None = None,
    ) -> list[Sample]:
        longest = self.sampling.max_new_tokens
        least = 0 if most is None else longest - most
        return self.sampler.generate(
            [record.tokens for record in records],
            self.prompt_format.end_ids,
            replace(self.sampling, temperature=temperature or 1.0),
            sources=sources,
            choices=[record.choices(self.prompt_format) for record in records] if constrained else None,
            stops=stops,
            # A row with a lower limit counts as if it had said the rest already.
            spoken=[max(record.spoken + longest - self.questions[record.slot].max_tokens, least) for record in records],
            caches=[record.policy_cache for record in records],
        )

    def _record(self, slot: int) -> Record:
        question = self.questions[slot]
        env = ConversationEnv(question, self.delimiters, ends_at_answer=self.ends_at_answer)
        _, info = env.reset(options={"index": 0})
        if slot not in self._thoughts:
            if not question.raw:
                self.prompt_format.tell(env, info["messages"])
            self._thoughts[slot] = env.thoughts
        env.thoughts = self._thoughts[slot]
        tokens = list(question.tokens)
        return Record(env, slot, info, tokens, len(tokens), [-1] * len(tokens), [0.0] * len(tokens))

    def _stop(self, record: Record, *, one_step: bool, told: bool, least: int = 1) -> Stop:
        """Say when to stop an answer: nobody waits, a stop was said, or a step is over."""
        question = self.questions[record.slot]
        tell = self._teller(record) if told and question.on_step is not None and not record.spoken else None
        watch = self._watcher(record, tell) if not one_step and (tell or self.ends_at_answer) else None
        step_end = StepEnd(self.prompt_format, self.delimiters, record.spoken > 0, least)

        def stop(tokens: Sequence[int]) -> int | None:
            if question.cancelled():
                return len(tokens)
            if one_step:
                length = step_end(tokens)
                if length is not None:
                    return length
            if self._said_stop(question, tokens):
                return len(tokens)
            return None if watch is None else watch(tokens)

        return stop

    def _said_stop(self, question: Question, tokens: Sequence[int]) -> bool:
        """Whether the last of some tokens say a stop."""
        # A character may take several tokens.
        tail = 4 * max(map(len, question.stops), default=0) + 4
        return bool(question.stops) and question.end(self.prompt_format.decode(tokens[-tail:])) is not None

    def _watcher(self, record: Record, tell: Callable[[str, list[int]], None] | None) -> Stop:
        """Return what sees each step of a turn as it is complete: tells of it, and stops where it ends the answer."""
        env: Any = record.env
        start, begun = 0, BegunStep()

        def watch(tokens: Sequence[int]) -> int | None:
            nonlocal start, begun
            length = self.prompt_format.complete_step(
                tokens[start:], self.delimiters, inside=start > 0 or record.spoken > 0, begun=begun
            )
            if length is None:
                return None
            start, begun = start + length, BegunStep()
            said = list(tokens[:start])
            text = self.prompt_format.decode(said)
            if not record.spoken and text.strip():
                text = text.removeprefix(self.prompt_format.lead)
            if tell is not None:
                tell(text, said)
            before = record.info["messages"][-1]["content"] if record.spoken else ""
            return start if self.ends_at_answer and env.states_answer(before + text) else None

        return watch

    def _teller(self, record: Record) -> Callable[[str, list[int]], None]:
        """Return what tells whoever waits of a step, with V after it."""
        question, read = self.questions[record.slot], Prefix()

        def tell(text: str, said: list[int]) -> None:
            nonlocal read
            value = None
            if self.value is not None:
                with readings(self.value):
                    values, [read] = self.value.values_after([[*question.tokens, *said]], [read])
                value = float(values[0])
            assert question.on_step is not None
            question.on_step(text, value)

        return tell
