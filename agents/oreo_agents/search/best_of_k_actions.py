"""Best of K actions by the learned value, turn by turn.

Source: Wang et al. 2024 (arXiv:2412.16145), test-time search in ALFWorld.
Deviation: one of the actions is greedy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from oreo_agents.networks.kv_cache import Prefix
from oreo_agents.search.actions import ActionSearch, Game
from oreo_agents.search.player import Judgement, Player


@dataclass(frozen=True, kw_only=True)
class BestOfKActions(ActionSearch):
    """At every turn the action with the highest V just before its end token, before the environment answers."""

    needs_value = True

    def judge(self, player: Player, games: Sequence[Game]) -> Sequence[Judgement]:
        """Read V after each proposal; a single action leaves nothing to choose, and costs no reading."""
        if self.actions == 1:
            return [Judgement(0.0, 0, Prefix())] * len(games)
        # Without their end token, after which V is 0.
        return player.judge(
            [game.record for game in games for _ in game.proposed],
            [sample.tokens[: -1 if sample.ended else None] for game in games for sample in game.proposed],
        )
