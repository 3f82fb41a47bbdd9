"""Searches that choose an action at every turn, where a task can be played only once.

Knows: how actions are proposed and judged, what that costs. Does not know: how one of them is chosen.
"""

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from oreo_agents.episodes.generate import Sample
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.record import Record
from oreo_agents.networks.kv_cache import Prefix
from oreo_agents.search.base import Answer, Proposal, Search
from oreo_agents.search.player import Judgement, Player
from oreo_agents.search.scoring import Floats


@dataclass(frozen=True)
class Offer:
    """The different actions that one is to be chosen from, in the order in which they came up, and what is known.

    Attributes:
        samples: the actions.
        draws: how often each of them came up, int [N].
        votes: how often its command did, whatever thoughts led to it, int [N]; of an action in which nobody reads a
            command (see ``Record.command``) as ``draws``.
        values: V of the state after each, reward units, float [N]; 0 where V is not read.
        log_policy: log pi of each at temperature 1, nats, float [N]; NaN where it is not read.
        source: of randomness, this turn's own.
    """

    samples: Sequence[Sample]
    draws: Sequence[int]
    votes: Sequence[int]
    values: Floats
    log_policy: Floats
    source: np.random.Generator


@dataclass
class Game:
    """A task being played.

    Attributes:
        record: what has happened.
        proposed: the different actions to choose from at this turn, in the order in which they came up.
        draws: how often each of them was proposed.
        turn: turns taken.
        generated: tokens generated.
        read: tokens that the value network read.
        turns: what was proposed at each turn before, see ``Answer``.
    """

    record: Record
    proposed: list[Sample] = field(default_factory=list)
    draws: list[int] = field(default_factory=list)
    turn: int = 0
    generated: int = 0
    read: int = 0
    turns: list[list[Proposal]] = field(default_factory=list)

    def propose(self, sample: Sample) -> None:
        """Add an action to choose from, or a draw of an equal one."""
        self.generated += len(sample.tokens)
        for k, other in enumerate(self.proposed):
            if sample.tokens == other.tokens:
                self.draws[k] += 1
                return
        self.proposed.append(sample)
        self.draws.append(1)

    def votes(self, prompt_format: PromptFormat) -> list[int]:
        """Count how often the command of each proposal came up."""
        commands = [self.record.command(sample, prompt_format) for sample in self.proposed]
        together = Counter[str | None]()
        for command, draws in zip(commands, self.draws, strict=True):
            together[command] += draws
        return [n if command is None else together[command] for command, n in zip(commands, self.draws, strict=True)]

    def take(
        self, offer: Offer, worth: Floats, judged: Sequence[Judgement], player: Player, *, reads_value: bool
    ) -> None:
        """Act on the proposal worth most, an unfinished one only if there is no other; of equal ones on the first."""
        texts = [self.record.said(sample, player.prompt_format) for sample in offer.samples]
        values = offer.values.tolist() if reads_value else [None] * len(texts)
        said = [None if np.isnan(number) else float(number) for number in offer.log_policy]
        scores = map(float, worth)
        self.turns.append([Proposal(*one) for one in zip(texts, offer.votes, values, said, scores, strict=True)])
        best = max(range(len(texts)), key=lambda k: (offer.samples[k].ended, worth[k]))
        self.read += sum(each.read for each in judged)
        self.record.value_cache = judged[best].cache
        self.record.advance(offer.samples[best], player.prompt_format, player.sampler.max_length)
        self.proposed, self.draws = [], []
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
        super().__post_init__()
        if self.actions < 1:
            raise ValueError(f"actions must be at least 1, got {self.actions}")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be > 0 to draw different actions, got {self.temperature}")

    @abstractmethod
    def worth(self, offer: Offer) -> Floats:
        """Return what each action is worth, float [N]; of those that ended the greatest is taken."""

    def judge(self, player: Player, games: Sequence[Game]) -> list[Judgement]:
        """Read V of the state after each proposal, those of one game after those of another, where it is needed."""
        return [Judgement(0.0, 0, Prefix()) for game in games for _ in game.proposed]

    def require_player(self, record: Record) -> None:
        """Refuse a game that cannot be played like this, by its opening.

        Raises:
            ValueError: it cannot.
        """

    def answer(self, player: Player) -> list[Answer | None]:
        """Play all tasks side by side."""
        answers: list[Answer | None] = [None] * len(player.indices)
        player.prompt_format.require_turns()
        for running in player.begin():
            for record in running[:1]:
                self.require_player(record)
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
        said = iter(self._log_policy(player, games))
        for game in games:
            own = [next(judged) for _ in game.proposed]
            offer = Offer(
                samples=game.proposed,
                draws=game.draws,
                votes=game.votes(player.prompt_format),
                values=np.array([judgement.value for judgement in own]),
                log_policy=np.array([next(said) for _ in game.proposed]),
                source=player.source(game.record, game.turn, self.actions),
            )
            game.take(offer, self.worth(offer), own, player, reads_value=self.needs_value)

    def _log_policy(self, player: Player, games: Sequence[Game]) -> list[float]:
        """Return log pi of each proposal, NaN where nobody asks; a single one leaves nothing to choose."""
        proposed = [(game.record, sample) for game in games for sample in game.proposed]
        if not self.reads_policy or self.actions == 1:
            return [np.nan] * len(proposed)
        return player.log_policy([record for record, _ in proposed], [sample for _, sample in proposed])

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


@dataclass(frozen=True, kw_only=True)
class GuidedActions(ActionSearch):
    """Base class of those that read V.

    Attributes:
        lookahead: V is read after the environment has answered, and not before: of each proposal it is tried what the
            environment says to it. That takes an environment whose state can be cloned; outside of games that are
            simulated there is none. How an episode ended is not looked at: of an action that ends it, V is read just
            before its end token, as without.
    """

    lookahead: bool = False

    needs_value = True

    def judge(self, player: Player, games: Sequence[Game]) -> list[Judgement]:
        """Read V; a single action leaves nothing to choose, and costs no reading."""
        if self.actions == 1:
            return super().judge(player, games)
        proposed = [(game.record, sample) for game in games for sample in game.proposed]
        if self.lookahead:
            read = [_answered(record, sample, player) for record, sample in proposed]
        else:
            # Without their end token, after which V is 0.
            read = [sample.tokens[: -1 if sample.ended else None] for _, sample in proposed]
        return player.judge([record for record, _ in proposed], read)

    def require_player(self, record: Record) -> None:
        """Refuse to look ahead where an environment cannot go back."""
        env = record.env.unwrapped
        if self.lookahead and not getattr(env, "clonable", hasattr(env, "clone_state")):
            raise ValueError(
                "lookahead=true tries each action and goes back, and the state of this environment cannot be cloned; "
                "leave it out"
            )


def _answered(record: Record, sample: Sample, player: Player) -> list[int]:
    """Return the tokens of an action and of what the environment says to it, up to where V is read."""
    child = record.fork()
    child.advance(sample, player.prompt_format, player.sampler.max_length)
    return child.judged[len(record.tokens) :]
