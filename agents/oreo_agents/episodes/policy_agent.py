"""A policy as an agent that ``oreo_envs.evaluate`` plays with.

Knows: chat messages in, a reply out. Does not know: environments, searches, rewards.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from oreo_agents.episodes.generate import Sample, Sampling, generate
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.sources import row_source
from oreo_agents.networks.policy import CausalPolicy
from oreo_envs.replies import Reply, Usage

_GREEDY = Sampling(temperature=0.0)
# So long a question waits for others to be answered with: they come one by one, as the answers before are graded.
_GATHER_S = 0.005


class PolicyAgent:
    """Answers messages with what a policy samples; questions that are asked at the same time share a batch.

    What is drawn depends on the seed, the task, which sample of it is played and the turn, not on what else is asked.
    """

    def __init__(
        self, policy: CausalPolicy, prompt_format: PromptFormat, sampling: Sampling = _GREEDY, *, seed: int = 0
    ) -> None:
        """Wrap a policy.

        Args:
            policy: to sample from.
            prompt_format: of its tokenizer.
            sampling: how; by default the likeliest tokens, 256 a turn at most.
            seed: of the sampling, where it is one.
        """
        self.policy, self.prompt_format, self.sampling, self.seed = policy, prompt_format, sampling, seed
        self._asked = 0
        self._waiting: list[tuple[list[int], np.random.Generator | None, asyncio.Future[Sample]]] = []

    @classmethod
    def from_pretrained(cls, path: str, *, seed: int = 0, device: str = "cpu", **sampling: Any) -> Self:
        """Load a checkpoint.

        Args:
            path: folder or hub name, such as ``RUN/oreo/policy``.
            seed: of the sampling.
            device: "cpu", "cuda", ...
            sampling: fields of ``Sampling``: ``temperature`` (here 0 by default), ``max_new_tokens``, ``batch_size``.

        Raises:
            ValueError: nothing that can be used at ``path``.
        """
        policy = CausalPolicy.from_pretrained(path, device=device)
        how = Sampling(**{"temperature": 0.0, **sampling})
        return cls(policy, PromptFormat.from_pretrained(path), how, seed=seed)

    async def __call__(self, messages: Sequence[Mapping[str, str]], info: Mapping[str, Any] | None = None) -> Reply:
        """Return the policy's turn after these messages.

        Args:
            messages: of the conversation until here.
            info: whose turn it is, as ``oreo_envs.evaluate`` says: ``index``, ``sample`` and ``step``. None: the next
                draw is the next question's, in the order in which they are asked.

        Raises:
            ValueError: they end with the assistant's, fill the policy's context, or the template cannot write them.
        """
        tokens = self.tokens(messages)
        if len(tokens) >= self.policy.max_length:
            raise ValueError(f"{len(tokens)} tokens were said, and the policy reads {self.policy.max_length}")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Sample] = loop.create_future()
        self._waiting.append((tokens, self._source(info), future))
        if len(self._waiting) == 1:
            loop.call_later(_GATHER_S, self._answer)
        sample = await future
        template = self.prompt_format.template
        begun = None if template is None else template.opened([dict(message) for message in messages])
        text = self.prompt_format.decode(sample.tokens).removeprefix(self.prompt_format.lead)
        usage = Usage(1, len(tokens), len(sample.tokens))
        cut = not sample.ended
        return Reply((begun or "") + text, cut=cut, finish_reason="length" if cut else "stop", usage=usage)

    def tokens(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Return what the policy reads before its turn: the same as in an episode that it was trained on."""
        said = [dict(message) for message in messages]
        if not said or said[-1]["role"] == "assistant":
            raise ValueError("a policy answers what somebody else said last; it does not go on with its own turn")
        turns = [place for place, message in enumerate(said) if message["role"] == "assistant"]
        if not turns:
            return self.prompt_format.opening(said)
        if turns[-1] != len(said) - 2:
            raise ValueError("a policy answers one message after its own turn, got several")
        spans = [(place, 0, len(said[place]["content"])) for place in turns]
        before, _ = self.prompt_format.encode_episode(said[:-1], spans)
        return before + self.prompt_format.next_turn(said[-1]["content"], system=said[0]["role"] == "system")

    def _source(self, info: Mapping[str, Any] | None) -> np.random.Generator | None:
        """Return what a turn is drawn from; None: nothing is drawn."""
        if self.sampling.temperature == 0:
            return None
        if info is not None:
            return row_source(self.seed, *(int(info[name]) for name in ("index", "sample", "step")))
        self._asked += 1
        return row_source(self.seed, self._asked - 1)

    def _answer(self) -> None:
        """Answer all that wait."""
        waiting, self._waiting = self._waiting, []
        try:
            samples = generate(
                self.policy,
                [tokens for tokens, _, _ in waiting],
                self.prompt_format.end_ids,
                self.sampling,
                sources=[source for _, source, _ in waiting],
            )
        except Exception as error:  # whoever asked is to hear of it
            for _, _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, _, future), sample in zip(waiting, samples, strict=True):
            if not future.done():
                future.set_result(sample)
