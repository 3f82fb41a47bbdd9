"""Ways to answer a task with a policy and perhaps its value: one module each."""

from oreo_agents.search.base import Search
from oreo_agents.search.best_of_n import BestOfN
from oreo_agents.search.majority import Majority
from oreo_agents.search.single import Admissible, Greedy, Sampled

__all__ = ["Admissible", "BestOfN", "Greedy", "Majority", "Sampled", "Search"]
