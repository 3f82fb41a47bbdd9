"""One point of a learning curve: a policy that is being trained answers dev tasks, greedily.

Knows: tasks, policies, names of metrics. Does not know: training, which tasks those are, where numbers are logged.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

import gymnasium as gym

from oreo_agents.episodes.generate import Sampling
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.rollout import RolloutCounts
from oreo_agents.evaluation.evaluate import Item, evaluate, summarize
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.search import Answer, Greedy
from oreo_algos.models import Models
from oreo_algos.training.curve import Evaluation

EXAMPLES = "eval/examples"
"""Tag of the judged answers in TensorBoard."""

_MAX_CHARS = 1500
"""Of a message that is shown; what lies in the middle of a longer one is left out."""

_FIRST, _LAST = 3, 5
"""Messages of a conversation that are shown; those between them are left out."""

# Numbers of a summary that are logged, and what they are called there.
_LOGGED = {
    "accuracy": "accuracy",
    "wilson_low": "accuracy_low",
    "wilson_high": "accuracy_high",
    "n": "n",
    "tokens_per_task": "tokens_per_task",
    "sound": "sound",
    "invalid_per_task": "invalid_per_task",
    "not_graded": "not_graded",
}


@dataclass
class DevTasks:
    """Dev tasks, and how to answer them.

    Attributes:
        make_env: makes one environment of the split.
        indices: the tasks.
        name: of environment and split, such as ``Arithmetic-v0/dev``.
        prompt_format: of the policy's tokenizer.
        sampling: limits.
        examples: judged answers to show.
        models: holds the policy.
        counts: filled with what went wrong.
    """

    make_env: Callable[[], gym.Env[str, str]]
    indices: Sequence[int]
    name: str
    prompt_format: PromptFormat
    sampling: Sampling
    examples: int
    models: Models
    counts: RolloutCounts = field(default_factory=RolloutCounts)

    def __post_init__(self) -> None:
        """Nothing was found yet."""
        self._found: Evaluation | None = None

    def __call__(self, step: int) -> Evaluation:
        """Answer the tasks with the policy as it is; while it is the reference, what was found before still holds."""
        if self._found is not None and self.models.policy_is_reference:
            return Evaluation(self._found.metrics, self._found.score)
        kept: list[Answer | None] = []
        policy = self.models.policy
        assert isinstance(policy, CausalPolicy)
        [(_, items)] = evaluate(
            self.make_env,
            policy,
            self.prompt_format,
            {"greedy": Greedy()},
            self.indices,
            self.sampling,
            seed=0,
            counts=self.counts,
            keep=lambda _, answers: kept.extend(answers[: self.examples]),
        )
        summary = summarize(items)
        metrics = {f"eval/{self.name}/{new}": float(summary[old]) for old, new in _LOGGED.items() if old in summary}
        texts = {EXAMPLES: examples_text(kept, items)} if kept else {}
        self._found = Evaluation(metrics, summary["accuracy"], texts)
        return self._found


def examples_text(answers: Sequence[Answer | None], items: Sequence[Item]) -> str:
    """Return judged answers as Markdown, in which nothing that was said is markup.

    Args:
        answers: the first ones.
        items: of all tasks in the same order.
    """
    parts = []
    for answer, item in zip(answers, items, strict=False):
        verdict = ("right" if item.correct else "wrong") if item.graded else "not graded"
        reason = f" ({item.grade_reason})" if item.grade_reason else ""
        said = [] if answer is None else answer.episode.messages
        lines = [f"**{_inline(item.task_id)}: {verdict}{_inline(reason)}, {item.tokens} tokens**"]
        shown = [f"{_inline(message['role'])}:\n\n{fenced(message['content'])}" for message in said]
        if (left := len(shown) - _FIRST - _LAST) > 0:
            shown[_FIRST:-_LAST] = [f"[... {left} messages ...]"]
        lines += shown
        parts.append("\n\n".join(lines if said else [*lines, "The task fills the context: no answer."]))
    return "\n\n---\n\n".join(parts)


def fenced(text: str) -> str:
    """Return a text as a block of code in Markdown, shortened in the middle."""
    if len(text) > _MAX_CHARS:
        half = _MAX_CHARS // 2
        text = f"{text[:half]}\n[... {len(text) - 2 * half} characters ...]\n{text[-half:]}"
    readable = "".join(c if c.isprintable() or c in "\n\t" else f"\\u{ord(c):04x}" for c in text)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", readable)), default=0))
    return f"{fence}\n{readable}\n{fence}"


def _inline(text: str) -> str:
    """Return a text of which no character is markup, shortened."""
    plain = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text[:200])
    return escape(re.sub(r"([\\`*_{}\[\]()#+!.-])", r"\\\1", plain), quote=False)
