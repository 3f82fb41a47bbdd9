"""Ways to answer a task with a policy and perhaps its value: one module each."""

from oreo_agents.search.base import Answer, Candidate, Proposal, Search
from oreo_agents.search.best_of_k_actions import BestOfKActions
from oreo_agents.search.best_of_n import BestOfN
from oreo_agents.search.majority import Majority
from oreo_agents.search.majority_of_k_actions import MajorityOfKActions
from oreo_agents.search.player import Player
from oreo_agents.search.resample import Resample, ResampleActions
from oreo_agents.search.samples import SampleSearch
from oreo_agents.search.single import Admissible, Greedy, Sampled
from oreo_agents.search.step_beam import StepBeam
from oreo_agents.search.token_guide import TokenGuide
from oreo_agents.search.weighted_vote import WeightedVote

__all__ = [
    "Admissible",
    "Answer",
    "BestOfKActions",
    "BestOfN",
    "Candidate",
    "Greedy",
    "Majority",
    "MajorityOfKActions",
    "Player",
    "Proposal",
    "Resample",
    "ResampleActions",
    "SampleSearch",
    "Sampled",
    "Search",
    "StepBeam",
    "TokenGuide",
    "WeightedVote",
]
