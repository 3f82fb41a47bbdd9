"""Token by token the best of a few, by the learned value and the policy.

Source: Zhou et al. 2025 (arXiv:2502.20548), Q#, whose policy says each token in proportion to ``pi * exp(Q / eta)``.
Deviations: its likeliest token is taken, and none is drawn; of those that the policy proposes, and not of all tokens;
Q of a token is V of the state after it, and so of OREO's policy in place of a distribution of the reference's returns.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from oreo_agents.episodes.generate import Sample
from oreo_agents.episodes.record import Record
from oreo_agents.search.base import Answer
from oreo_agents.search.player import Judgement, Player
from oreo_agents.search.scoring import Scored


@dataclass
class _Turn:
    """A turn on its way.

    Attributes:
        record: the episode before it, which is told when the turn is over.
        draft: the same with the tokens so far.
        number: turns before it.
        said: the tokens so far.
        generated, read: tokens of the episode so far, of the policy and of the value network.
    """

    record: Record
    draft: Record
    number: int = 0
    said: Sample = field(default_factory=lambda: Sample([], []))
    generated: int = 0
    read: int = 0

    @classmethod
    def of(cls, record: Record) -> "_Turn":
        """Begin the first turn."""
        return cls(record, _draft(record))

    def take(self, token: Sample, judgement: Judgement | None) -> None:
        """Say one token more."""
        self.said.tokens += token.tokens
        self.said.logprobs += token.logprobs
        self.said.ended = token.ended
        self.draft.tokens += token.tokens
        self.draft.policy_cache = token.cache
        if judgement is not None:
            self.draft.value_cache = judgement.cache

    def end(self, player: Player) -> None:
        """Hand the turn to the environment, and begin the next."""
        self.said.cache = self.draft.policy_cache
        self.record.value_cache = self.draft.value_cache
        self.record.advance(self.said, player.prompt_format, player.sampler.max_length)
        self.draft, self.said, self.number = _draft(self.record), Sample([], []), self.number + 1


def _draft(record: Record) -> Record:
    draft = copy.copy(record)
    draft.tokens = list(record.tokens)
    return draft


@dataclass(frozen=True, kw_only=True)
class TokenGuide(Scored):
    """At every token, of those proposed the one with the highest score, see ``Scored``.

    V is read in the state after each, of an end token just before it, and only where two different ones are proposed.

    Attributes:
        proposals: tokens drawn at each place, one of them greedy; equal ones are one to choose.
        temperature: of the others.
    """

    proposals: int = 4
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        if self.proposals < 1:
            raise ValueError(f"proposals must be at least 1, got {self.proposals}")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be > 0 to draw different tokens, got {self.temperature}")

    def answer(self, player: Player) -> list[Answer | None]:
        """Answer all tasks side by side."""
        answers: list[Answer | None] = [None] * len(player.indices)
        for records in player.begin():
            turns = [_Turn.of(record) for record in records]
            while turns:
                self._say(player, turns)
                for turn in turns:
                    if turn.record.over:
                        episode = player.end(turn.record, self.temperature)
                        answers[turn.record.slot] = Answer(episode, turn.generated, turn.read)
                turns = [turn for turn in turns if not turn.record.over]
        return answers

    def _say(self, player: Player, turns: Sequence[_Turn]) -> None:
        """Say one token of each turn."""
        asked = [(turn, source) for turn in turns for source in self._sources(player, turn)]
        drawn = player.continue_turns(
            [turn.draft for turn, _ in asked], self.temperature, [s for _, s in asked], one_step=False, most=1
        )
        offers = [dict[int, tuple[Sample, int]]() for _ in turns]
        for k, sample in enumerate(drawn):
            offer, token = offers[k // self.proposals], sample.tokens[0]
            first, draws = offer.get(token, (sample, 0))
            offer[token] = first, draws + 1
        several = [k for k, offer in enumerate(offers) if len(offer) > 1]
        places = [(turns[k], sample) for k in several for sample, _ in offers[k].values()]
        judged = iter(player.judge([t.draft for t, _ in places], [[] if s.ended else s.tokens for _, s in places]))
        logs = [0.0] * len(places)
        if self.reads_policy:
            logs = player.log_policy([turn.draft for turn, _ in places], [sample for _, sample in places])
        said = iter(logs)
        for turn, offer in zip(turns, offers, strict=True):
            samples, votes = [sample for sample, _ in offer.values()], [draws for _, draws in offer.values()]
            turn.generated += self.proposals
            best, own = 0, [next(judged) for _ in samples] if len(samples) > 1 else [None]
            if len(samples) > 1:
                values = [judgement.value for judgement in own if judgement is not None]
                best = int(self.scores(values, log_policy=[next(said) for _ in samples], votes=votes).argmax())
                turn.read += sum(judgement.read for judgement in own if judgement is not None)
            turn.take(samples[best], own[best])
            if turn.said.ended or player.left(turn.draft) < 1:
                turn.end(player)

    def _sources(self, player: Player, turn: _Turn) -> Iterator[np.random.Generator | None]:
        """Yield the randomness of each proposal; the first is greedy."""
        yield None
        for k in range(1, self.proposals):
            yield player.source(turn.record, turn.number, len(turn.said.tokens), k)

    @property
    def size(self) -> str | None:
        """Number of proposals."""
        return str(self.proposals)

    def sized(self, answers: int) -> "TokenGuide":
        """Propose so many tokens at each place: as many answers are generated."""
        return replace(self, proposals=answers)
