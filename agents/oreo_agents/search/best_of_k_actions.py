"""Best of K actions by the learned value, turn by turn, where a task can be played only once.

Source: Wang et al. 2024 (arXiv:2412.16145), test-time search in ALFWorld.
Deviation: one of the actions is greedy.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from oreo_agents.generate import Sample
from oreo_agents.kv_cache import Prefix
from oreo_agents.record import Record
from oreo_agents.search.base import Answer, Search
from oreo_agents.search.player import Judgement, Player


@dataclass
class _Game:
    """A task being played."""

    record: Record
    proposed: list[Sample] = field(default_factory=list)
    turn: int = 0
    generated: int = 0
    read: int = 0

    def propose(self, sample: Sample) -> None:
        """Add an action to choose from, unless there is an equal one."""
        self.generated += len(sample.tokens)
        if all(sample.tokens != other.tokens for other in self.proposed):
            self.proposed.append(sample)

    @property
    def actions(self) -> list[list[int]]:
        """The tokens of each action, but for its end token, after which V is 0."""
        return [sample.tokens[: -1 if sample.ended else None] for sample in self.proposed]

    def take(self, judged: Sequence[Judgement], player: Player) -> None:
        """Act on the proposal of the highest value, an unfinished one only if there is no other."""
        best, judgement = max(zip(self.proposed, judged, strict=True), key=lambda c: (c[0].ended, c[1].value))
        self.read += sum(each.read for each in judged)
        self.record.value_cache = judgement.cache
        self.record.advance(best, player.prompt_format, player.policy.max_length)
        self.proposed = []
        self.turn += 1


@dataclass(frozen=True, kw_only=True)
class BestOfKActions(Search):
    """At every turn the action with the highest V just before its end token, before the environment answers.

    An action that a limit cut off is taken only if there is no other.

    Attributes:
        actions: proposed at each turn, one of them greedy; equal ones are read once.
        temperature: of the others.
    """

    actions: int = 8
    temperature: float = 0.7

    needs_value = True

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.actions < 1:
            raise ValueError(f"actions must be at least 1, got {self.actions}")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be > 0 to draw different actions, got {self.temperature}")

    def answer(self, player: Player) -> list[Answer | None]:
        """Play all tasks side by side."""
        answers: list[Answer | None] = [None] * len(player.indices)
        player.prompt_format.require_turns()
        for running in player.begin():
            games = [_Game(record) for record in running]
            while games:
                self._play_turn(player, games)
                for game in games:
                    if game.record.over:
                        episode = player.end(game.record, self.temperature)
                        answers[game.record.slot] = Answer(episode, game.generated, game.read)
                games = [game for game in games if not game.record.over]
        return answers

    def _play_turn(self, player: Player, games: Sequence[_Game]) -> None:
        """Propose actions for the present turn of each game, and take the best."""
        asked = [(game, source) for game in games for source in self._sources(player, game)]
        samples = player.continue_turns(
            [game.record for game, _ in asked], self.temperature, [source for _, source in asked], one_step=False
        )
        for (game, _), sample in zip(asked, samples, strict=True):
            game.propose(sample)
        judged = iter(self._judge(player, games))
        for game in games:
            game.take([next(judged) for _ in game.proposed], player)

    def _judge(self, player: Player, games: Sequence[_Game]) -> list[Judgement]:
        """Read V after each proposal; a single action leaves nothing to choose, and costs no reading."""
        if self.actions == 1:
            return [Judgement(0.0, 0, Prefix())] * len(games)
        return player.judge(
            [game.record for game in games for _ in game.proposed],
            [action for game in games for action in game.actions],
        )

    def _sources(self, player: Player, game: _Game) -> Iterator[np.random.Generator | None]:
        """Yield the randomness of each action; the first is greedy."""
        yield None
        for k in range(1, self.actions):
            yield player.source(game.record, game.turn, k)

    @property
    def size(self) -> str | None:
        """Number of actions."""
        return str(self.actions)

    def sized(self, answers: int) -> "BestOfKActions":
        """Propose so many actions: each turn is generated so many times."""
        return replace(self, actions=answers)

    def unfit(self, *, played: bool) -> str | None:
        """Refuse tasks with one answer: there it is best of N."""
        if not played:
            return "plays turn by turn; for a task with one answer use best_of_n or step_beam"
        return None
