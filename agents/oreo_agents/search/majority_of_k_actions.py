"""Majority vote over K actions, turn by turn: what as many samples give without a value."""

from collections.abc import Sequence
from dataclasses import dataclass

from oreo_agents.networks.kv_cache import Prefix
from oreo_agents.search.actions import ActionSearch, Game
from oreo_agents.search.player import Judgement, Player


@dataclass(frozen=True, kw_only=True)
class MajorityOfKActions(ActionSearch):
    """At every turn the action that was proposed most often; the greedy one wins a tie that it is part of."""

    def judge(self, player: Player, games: Sequence[Game]) -> Sequence[Judgement]:
        """Count."""
        return [Judgement(float(votes), 0, Prefix()) for game in games for votes in game.votes]
