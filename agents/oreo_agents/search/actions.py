"""Searches that choose an action at every turn, where a task can be played only once.

Knows: how actions are proposed, what that costs. Does not know: how one of them is chosen.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from oreo_agents.episodes.generate import Sample
from oreo_agents.episodes.record import Record
from oreo_agents.search.base import Answer, Proposal, Search
from oreo_agents.search.player import Judgement, Player
from oreo_algos.typed import require_finite, require_types


@dataclass
class Game:
    """A task being played.

    Attributes:
        record: what has happened.
        proposed: the different actions to choose from at this turn, in the order in which they came up.
        votes: how often each of them was proposed.
        turn: turns taken.
        generated: tokens generated.
        read: tokens that the value network read.
        turns: what was proposed at each turn before, see ``Answer``.
    """

    record: Record
    proposed: list[Sample] = field(default_factory=list)
    votes: list[int] = field(default_factory=list)
    turn: int = 0
    generated: int = 0
    read: int = 0
    turns: list[list[Proposal]] = field(default_factory=list)

    def propose(self, sample: Sample) -> None:
        """Add an action to choose from, or a vote for an equal one."""
        self.generated += len(sample.tokens)
        for k, other in enumerate(self.proposed):
            if sample.tokens == other.tokens:
                self.votes[k] += 1
                return
        self.proposed.append(sample)
        self.votes.append(1)

    def take(self, judged: Sequence[Judgement], player: Player, *, reads_value: bool) -> None:
        """Act on the best of the proposals, an unfinished one only if there is no other; of equal ones on the first."""
        texts = [self.record.said(sample, player.prompt_format) for sample in self.proposed]
        values = [judgement.value if reads_value else None for judgement in judged]
        self.turns.append([Proposal(*one) for one in zip(texts, self.votes, values, strict=True)])
        best, judgement = max(zip(self.proposed, judged, strict=True), key=lambda c: (c[0].ended, c[1].value))
        self.read += sum(each.read for each in judged)
        self.record.value_cache = judgement.cache
        self.record.advance(best, player.prompt_format, player.sampler.max_length)
        self.proposed, self.votes = [], []
        self.turn += 1


@dataclass(frozen=True, kw_only=True)
class ActionSearch(Search):
    """Base class; those with equal settings choose among actions that are drawn alike.

    An action that a limit cut off is taken only if there is no other.

    Attributes:
        actions: proposed at each turn, one of them greedy; equal ones are one to choose.
        temperature: of the others.
    """

    actions: int = 8
    temperature: float = 0.7

    def __post_init__(self) -> None:
        """Check the settings."""
        require_types(self)
        require_finite(self)
        if self.actions < 1:
            raise ValueError(f"actions must be at least 1, got {self.actions}")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be > 0 to draw different actions, got {self.temperature}")

    @abstractmethod
    def judge(self, player: Player, games: Sequence[Game]) -> Sequence[Judgement]:
        """Say how good each proposal is, those of one game after those of another; the highest value is taken."""

    def answer(self, player: Player) -> list[Answer | None]:
        """Play all tasks side by side."""
        answers: list[Answer | None] = [None] * len(player.indices)
        player.prompt_format.require_turns()
        for running in player.begin():
            games = [Game(record) for record in running]
            while games:
                self._play_turn(player, games)
                for game in games:
                    if game.record.over:
                        episode = player.end(game.record, self.temperature)
                        turns = game.turns if self.actions > 1 else ()
                        answers[game.record.slot] = Answer(episode, game.generated, game.read, turns=turns)
                games = [game for game in games if not game.record.over]
        return answers

    def _play_turn(self, player: Player, games: Sequence[Game]) -> None:
        """Propose actions for the present turn of each game, and take the best."""
        asked = [(game, source) for game in games for source in self._sources(player, game)]
        samples = player.continue_turns(
            [game.record for game, _ in asked], self.temperature, [source for _, source in asked], one_step=False
        )
        for (game, _), sample in zip(asked, samples, strict=True):
            game.propose(sample)
        judged = iter(self.judge(player, games))
        for game in games:
            game.take([next(judged) for _ in game.proposed], player, reads_value=self.needs_value)

    def _sources(self, player: Player, game: Game) -> Iterator[np.random.Generator | None]:
        """Yield the randomness of each action; the first is greedy."""
        yield None
        for k in range(1, self.actions):
            yield player.source(game.record, game.turn, k)

    @property
    def size(self) -> str | None:
        """Number of actions."""
        return str(self.actions)

    def sized(self, answers: int) -> "ActionSearch":
        """Propose so many actions: each turn is generated so many times."""
        return replace(self, actions=answers)

    def unfit(self, *, played: bool) -> str | None:
        """Refuse tasks with one answer: there whole answers are chosen from."""
        if not played:
            return "plays turn by turn; for a task with one answer use best_of_n or step_beam"
        return None
