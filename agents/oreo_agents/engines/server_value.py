"""V from a server of vLLM: raw values of every token over /pooling, checked against the own network.

Knows: transcripts, requests. Does not know: HTTP, searches.
"""

import asyncio
from collections.abc import Sequence

import torch
from torch import Tensor

from oreo_agents.engines.line import Line
from oreo_agents.engines.proof import probe_prompts, require_values
from oreo_agents.engines.settings import SamplerSettings
from oreo_agents.engines.wire import choose_model, read_values
from oreo_agents.networks.kv_cache import Prefix
from oreo_agents.networks.value import TokenValue

_POOLING = "/pooling"
_ONE_IN = 64


class ServerValue:
    """The weights of one value network on a server; see ``StateValue``."""

    resumes = False

    def __init__(
        self,
        line: Line,
        value: TokenValue,
        settings: SamplerSettings,
        *,
        version: str,
        model: str | None = None,
        special: Sequence[int] = (),
    ) -> None:
        """Check that the server computes what the value network does.

        Args:
            line: to the server.
            value: the same weights in this process, for the checks.
            settings: tolerance.
            version: tells these weights from all others.
            model: the name under which the server has it; None: the only name that it has.
            special: tokens that do not occur in ordinary text; the probe leaves them out.

        Raises:
            ServerError: it does not, or cannot be used; it says in what.
        """
        self.line, self.value, self.settings, self.version = line, value, settings, version
        self.special = special
        self._rows_unaudited = 0
        models = line.do(line.get("/v1/models"))
        self.model, _ = choose_model(models, model, line.url, "value")
        line.do(self._prove(once=False))
        line.on_return = self._prove_again

    async def _prove_again(self) -> None:
        await self._prove(once=True)

    async def _prove(self, *, once: bool) -> None:
        prompts = probe_prompts(self.value.vocabulary, self.special, 16)
        pairs = [(prompt, await self._read(prompt, once=once)) for prompt in prompts]
        require_values(self.value, pairs, self.settings.tolerance, self.line.url)

    async def _read(self, tokens: Sequence[int], *, once: bool = False) -> list[float]:
        body = {"model": self.model, "input": list(tokens), "task": "token_classify", "cache_salt": self.version}
        post = self.line.post_once if once else self.line.post
        return read_values(await post(_POOLING, body), tokens, self.line.url)

    async def _read_all(self, transcripts: Sequence[Sequence[int]]) -> list[list[float]]:
        return await asyncio.gather(*map(self._read, transcripts))

    def values_after(
        self, transcripts: Sequence[Sequence[int]], prefixes: Sequence[Prefix]
    ) -> tuple[Tensor, list[Prefix]]:
        """Return V of the state after each transcript, see ``TokenValue.values_after``; nothing is kept here.

        Raises:
            ServerError: the server cannot be used.
        """
        read = self.line.do(self._read_all(transcripts))
        self._rows_unaudited += len(read)
        if read and self.settings.audit and self._rows_unaudited >= _ONE_IN:
            self._rows_unaudited = 0
            longest = max(range(len(read)), key=lambda i: len(read[i]))
            require_values(self.value, [(transcripts[longest], read[longest])], self.settings.tolerance, self.line.url)
        return torch.tensor([row[-1] for row in read]), [Prefix() for _ in transcripts]
