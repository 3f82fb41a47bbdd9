"""Small tree problems whose soft-optimal value and policy are known in closed form.

A node is a token, and no token stands for two nodes, so the last token is the state and a table is a full network.
Every path goes root, choices (an observation may follow a step), end token; a reward may fall on every step.
"""

# N nodes, one token each; the end token is the last id and is no state.

import copy
import itertools
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from tabular import TablePolicy, TableValue
from torch import Tensor

from oreo_algos import Episode, EpisodeBuffer, Models

FORBIDDEN = -30.0  # logit of a token that is no child
STEP_LENGTH = 2  # choices a step


@dataclass
class TreeMdp:
    """Trees grown from a seed, each from its own root.

    Attributes:
        beta: KL temperature, reward units per nat.
        children: of each node, the nodes that may follow and their probability under the reference.
        reward: of (node, next token), where that token ends a step, reward units.
        observations: nodes that the environment adds; the policy does not choose them.
        roots: prompts.
        end: id of the end token.
    """

    beta: float
    children: dict[int, dict[int, float]] = field(default_factory=dict)
    reward: dict[tuple[int, int], float] = field(default_factory=dict)
    observations: set[int] = field(default_factory=set)
    roots: list[int] = field(default_factory=list)
    end: int = 0

    @property
    def choices(self) -> list[int]:
        """Nodes that an action token follows, the end token included."""
        return [node for node, children in self.children.items() if not self.observations & children.keys()]

    @property
    def read_states(self) -> list[int]:
        """Nodes at which a search reads V: where a step begins, and just before the end token."""
        return sorted({*self.step_starts, *(node for node in self.choices if self.end in self.children[node])})

    @property
    def step_starts(self) -> list[int]:
        """Nodes that the first token of a step follows."""
        episodes = [self.episode(path) for path in self.paths()]
        return sorted({int(e.tokens[list(e.step_id).index(k) - 1]) for e in episodes for k in range(e.num_steps)})

    def value(self, node: int) -> float:
        """V*(s) = beta log sum_a ref(a|s) exp((r(s, a) + V*(s')) / beta), by recursion; 0 after the end token."""
        if node == self.end:
            return 0.0
        # An observation is no choice: exp and log cancel.
        terms = (p * math.exp(self.q(node, child) / self.beta) for child, p in self.children[node].items())
        return self.beta * math.log(sum(terms))

    def q(self, node: int, child: int) -> float:
        """Q*(s, a) = r(s, a) + V*(s')."""
        return self.reward.get((node, child), 0.0) + self.value(child)

    def reference_logits(self) -> Tensor:
        """Rows of log ref, [N, N]."""
        logits = torch.full((self.end + 1, self.end + 1), FORBIDDEN)
        for node, children in self.children.items():
            for child, p in children.items():
                logits[node, child] = math.log(p)
        return logits

    def optimal_logits(self) -> Tensor:
        """Rows of log pi* = log ref + (Q* - V*) / beta, [N, N]."""
        logits = self.reference_logits()
        for node in self.choices:
            for child in self.children[node]:
                logits[node, child] += (self.q(node, child) - self.value(node)) / self.beta
        return logits

    def paths(self) -> list[list[int]]:
        """Every path from a root to the end token."""
        grown, finished = [[root] for root in self.roots], []
        while grown:
            path = grown.pop(0)
            if path[-1] == self.end:
                finished.append(path)
            else:
                grown.extend([*path, child] for child in self.children[path[-1]])
        return finished

    def episode(self, path: list[int]) -> Episode:
        """One path as an episode of steps of ``STEP_LENGTH`` choices, the end token part of the last."""
        step_id, rewards, chosen = [-1], [0.0], 0
        for node, token in itertools.pairwise(path):
            if token in self.observations:
                step_id.append(-1)
                continue
            if token != self.end and chosen == STEP_LENGTH:
                chosen = 0
                rewards.append(0.0)
            step_id.append(len(rewards) - 1)
            rewards[-1] += self.reward.get((node, token), 0.0)
            chosen += 1
        return Episode(
            tokens=path,
            step_id=step_id,
            rewards=rewards,
            success=sum(rewards) > 0,
            terminated=True,
            truncated=False,
            task_id=f"root-{path[0]}",
            env_id="oreo/Tree-v0",
        )

    def buffer(self) -> EpisodeBuffer:
        """Every path once: data of a uniform behaviour policy, not of the reference."""
        return EpisodeBuffer(self.episode(path) for path in self.paths())

    def models(self) -> Models:
        """Tables that start at the reference and at V = 0."""
        policy = TablePolicy(self.reference_logits())
        return Models(policy, copy.deepcopy(policy), TableValue(self.end + 1), policy_is_reference=True)


def grow(seed: int, *, roots: int = 2, beta: float = 0.5) -> TreeMdp:
    """Draw trees of 2 to 4 choices with 2 or 3 children each, rewards and reference probabilities."""
    rng = np.random.default_rng(seed)
    tree, ids = TreeMdp(beta), itertools.count()
    tree.roots = [next(ids) for _ in range(roots)]
    outcomes: dict[int, float] = {}
    frontier = [(-1, root, 0) for root in tree.roots]
    while frontier:
        parent, node, depth = frontier.pop()
        if depth == 2 * STEP_LENGTH or (depth >= 2 and rng.random() < 0.4):
            outcomes[node] = float(rng.random() < 0.5)
            continue
        if depth == STEP_LENGTH:  # a step ended here and another begins
            tree.reward[parent, node] = float(rng.uniform(-0.3, 0.3))
            if rng.random() < 0.5:
                observation = next(ids)
                tree.observations.add(observation)
                tree.children[node] = {observation: 1.0}
                node = observation
        shares = rng.dirichlet([2.0] * int(rng.integers(2, 4)))
        tree.children[node] = {next(ids): float(p) for p in shares}
        frontier.extend((node, child, depth + 1) for child in tree.children[node])
    tree.end = next(ids)
    for leaf, outcome in outcomes.items():
        tree.children[leaf] = {tree.end: 1.0}
        tree.reward[leaf, tree.end] = outcome
    return tree
