"""Beam search over reasoning steps, guided by the learned value and the policy.

Source: Wang et al. 2024 (arXiv:2412.16145), test-time search.
Deviations: V alone decides there, which is ``tau=0``; one expansion of each beam is greedy; duplicates are dropped;
finished answers compete with unfinished ones. Steps that are taken together and the vote at the end follow Wang et al.
2025 (arXiv:2505.17373), value-guided search, whose blocks are tokens and not whole steps.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import exp, isqrt
from typing import Literal

import numpy as np

from oreo_agents.episodes.generate import Sample
from oreo_agents.episodes.record import Record
from oreo_agents.search.base import Answer, Candidate
from oreo_agents.search.player import Player
from oreo_agents.search.scoring import Scored


@dataclass(frozen=True)
class _Beam:
    """An answer so far.

    Attributes:
        record: what was said.
        value: V of its state.
        log_policy: log pi of its steps at temperature 1, nats; 0 where nobody asks.
        votes: product over its steps of the share of continuations that came to the same.
        score: what it is worth.
    """

    record: Record
    value: float = 0.0
    log_policy: float = 0.0
    votes: float = 1.0
    score: float = 0.0


@dataclass
class _Child:
    """A step with which a beam goes on.

    Attributes:
        tree: that it is of.
        parent: the beam.
        sample: the step.
        record: the answer with it.
        draws: how many continuations came to the same.
    """

    tree: "_Tree"
    parent: _Beam
    sample: Sample
    record: Record
    draws: int = 1


@dataclass
class _Tree:
    """The search for one answer."""

    live: list[_Beam]
    candidates: list[_Beam] = field(default_factory=list)
    finished: list[_Beam] = field(default_factory=list)
    cut_off: list[_Beam] = field(default_factory=list)
    depth: int = 0
    generated: int = 0
    read: int = 0
    seen: set[tuple[int, ...]] = field(default_factory=set)

    def keep(self, count: int) -> None:
        """Go on with those candidates that are among the ``count`` best of all beams, finished ones included."""
        going = [beam for beam in self.candidates if not beam.record.over]
        self.finished += [beam for beam in self.candidates if beam.record.terminated]
        self.cut_off += [beam for beam in self.candidates if beam.record.truncated]
        # Finished ones come first where scores are equal: they cost nothing more.
        best = sorted([*self.finished, *going], key=lambda beam: -beam.score)[:count]
        for beam in [*self.live, *(beam for beam in self.candidates if beam.record.over)]:
            beam.record.forget()
        self.live = [beam for beam in best if not beam.record.over]
        self.candidates = []
        self.depth += 1

    def best(self) -> _Beam:
        """Return the finished answer with the highest score, or the best of those that a limit cut off."""
        return max(self.finished or self.cut_off, key=lambda beam: beam.score)

    def voted(self, answers: Sequence[str | None], tau: float) -> _Beam:
        """Return the best of the finished answers that say what most weight says, see ``WeightedVote``.

        Args:
            answers: what each of the finished ones says.
            tau: of the weights ``exp(V / tau)``; 0: V itself, at least 0.
        """
        voters = [(answer, beam) for answer, beam in zip(answers, self.finished, strict=True) if answer is not None]
        if not voters:
            return self.best()
        most = max(beam.value for _, beam in voters)
        weights: defaultdict[str | None, float] = defaultdict(float)
        for answer, beam in voters:
            weights[answer] += exp((beam.value - most) / tau) if tau else max(beam.value, 0.0)
        return max(voters, key=lambda voter: (weights[voter[0]], voter[1].score))[1]

    def answer(self, player: Player, search: "StepBeam") -> Answer:
        """Give the best one, with the others that reached their end."""
        beams = [*self.finished, *self.cut_off]
        ended = [player.episode(beam.record, search.temperature) for beam in beams]
        answers = [player.final_answer(episode) for episode in ended]
        best = self.voted(answers[: len(self.finished)], search.tau) if search.final == "vote" else self.best()
        chosen = next(k for k, beam in enumerate(beams) if beam is best)
        ended[chosen] = player.end(best.record, search.temperature)
        others = [
            Candidate(episode, beam.value, answer, beam.score)
            for episode, beam, answer in zip(ended, beams, answers, strict=True)
        ]
        return Answer(ended[chosen], self.generated, self.read, others if len(beams) > 1 else ())


@dataclass(frozen=True, kw_only=True)
class StepBeam(Scored):
    """Step by step, go on with the ``keep`` answers whose score is highest, see ``Scored``.

    Each of them is continued by ``expand`` steps, one greedy and the others sampled; the first step has
    ``keep * expand`` candidates. V is read in the state after a step, and of a finished answer just before its end
    token; log pi is that of all steps so far. A finished answer takes one of the ``keep`` places as long as its score
    is among the highest; the search ends when no unfinished one is left, and gives the finished answer with the highest
    score. With ``tau=0`` and the true value of greedy decoding the answer is never worse than the greedy one: some beam
    always has a V at least as high.

    Attributes:
        keep: beams.
        expand: continuations of each.
        temperature: of the sampling; high ones propose rare errors that V never saw.
        step_tokens: of a step at most; what goes on beyond it is cut off, like an answer at its limit, so that no beam
            waits for a step that never ends. None: as many as the turn has left.
        block_tokens: a beam goes on by whole steps of together so many tokens at least, before V is asked: with long
            answers fewer and longer ones to choose among.
        final: which of the finished answers is given: the best, or the best of those for which most weight votes, see
            ``WeightedVote``.
    """

    keep: int = 2
    expand: int = 4
    temperature: float = 0.7
    step_tokens: int | None = None
    block_tokens: int = 1
    final: Literal["best", "vote"] = "best"

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        if self.keep < 1 or self.expand < 1:
            raise ValueError(f"keep and expand must be at least 1, got {self.keep} and {self.expand}")
        if self.block_tokens < 1:
            raise ValueError(f"block_tokens must be at least 1, got {self.block_tokens}")
        if self.step_tokens is not None and self.step_tokens < 1:
            raise ValueError(f"step_tokens must be at least 1, or null for no limit, got {self.step_tokens}")
        if self.step_tokens is not None and self.step_tokens < self.block_tokens:
            raise ValueError(f"step_tokens={self.step_tokens} ends a step before block_tokens={self.block_tokens}")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be > 0 to draw different steps, got {self.temperature}")

    def answer(self, player: Player) -> list[Answer | None]:
        """Search all tasks side by side, so that their beams share forward passes."""
        answers: list[Answer | None] = [None] * len(player.indices)
        for records in player.begin():
            running = [_Tree([_Beam(record)]) for record in records]
            while running:
                self._grow(player, running)
                for tree in running:
                    if not tree.live:
                        answers[tree.best().record.slot] = tree.answer(player, self)
                running = [tree for tree in running if tree.live]
        return answers

    def _grow(self, player: Player, trees: Sequence[_Tree]) -> None:
        """Continue every live beam by a step, and keep the best."""
        asked = [
            (tree, beam, source)
            for tree in trees
            for number, beam in enumerate(tree.live)
            for source in self._sources(player, tree, beam.record, number)
        ]
        parents, sources = [beam.record for _, beam, _ in asked], [source for *_, source in asked]
        samples = player.continue_turns(
            parents, self.temperature, sources, one_step=True, least=self.block_tokens, most=self.step_tokens
        )
        children: dict[tuple[int, tuple[int, ...]], _Child] = {}
        for (tree, beam, _), sample in zip(asked, samples, strict=True):
            tree.generated += len(sample.tokens) + sample.dropped
            transcript = (*beam.record.tokens, *sample.tokens)
            if (id(tree), transcript) in children:
                children[id(tree), transcript].draws += 1
            elif transcript not in tree.seen:
                tree.seen.add(transcript)
                record = beam.record.fork()
                record.advance(sample, player.prompt_format, player.sampler.max_length)
                children[id(tree), transcript] = _Child(tree, beam, sample, record)
        self._judge(player, list(children.values()))
        for tree in trees:
            tree.keep(self.keep)

    def _judge(self, player: Player, children: Sequence[_Child]) -> None:
        """Make candidates of the children of beams; a single greedy one leaves nothing to choose, and no V is read."""
        if self.keep * self.expand == 1:
            for child in children:
                child.tree.candidates.append(_Beam(child.record))
            return
        parents = [child.parent.record for child in children]
        ends = [child.record.judged[len(child.parent.record.tokens) :] for child in children]
        judged = player.judge(parents, ends)
        said = [0.0] * len(children)
        if self.reads_policy:
            said = player.log_policy(parents, [child.sample for child in children])
        for child, judgement, log_policy in zip(children, judged, said, strict=True):
            child.tree.read += judgement.read
            child.record.value_cache = judgement.cache
            log_policy += child.parent.log_policy
            votes = child.parent.votes * child.draws / self._width(child.tree)
            [score] = self.scores([judgement.value], log_policy=log_policy, tokens=child.record.spoken, votes=votes)
            child.tree.candidates.append(_Beam(child.record, judgement.value, log_policy, votes, float(score)))

    def _width(self, tree: _Tree) -> int:
        """Return how many continuations each beam of a tree has."""
        return self.expand if tree.depth else self.keep * self.expand

    def _sources(
        self, player: Player, tree: _Tree, parent: Record, number: int
    ) -> Iterator[np.random.Generator | None]:
        """Yield the randomness of each continuation of beam ``number``; the first is greedy."""
        yield None
        for k in range(1, self._width(tree)):
            yield player.source(parent, tree.depth, number, k)

    @property
    def size(self) -> str | None:
        """Beams and continuations of each."""
        return f"{self.keep} x {self.expand}"

    def sized(self, answers: int) -> "StepBeam":
        """Give each beam about twice as many continuations as there are beams: duplicates leave fewer to choose from.

        Every step is drawn ``keep * expand`` times, so as many answers are generated as a rule. A token that showed
        that a step was over (see ``PromptFormat.complete_step``) is drawn again and comes on top.
        """
        keep = max(isqrt(answers // 2), 1)
        return replace(self, keep=keep, expand=answers // keep)

    def unfit(self, *, played: bool) -> str | None:
        """Refuse games: their turns are not steps of one text."""
        if played:
            return "searches over the steps of one answer; for a task that is played turn by turn use best_of_k_actions"
        return None
