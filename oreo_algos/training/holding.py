"""Which process holds which weights of a training run: one all of them, several all of them each, or parts.

Knows: models, ranks, ``TrainerConfig.sharding``. Does not know: losses, steps, files.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import torch

from oreo_algos.models import Models, Network
from oreo_algos.ranks import Ranks
from oreo_algos.training.gradients import sum_gradients
from oreo_algos.training.settings import TrainerConfig
from oreo_algos.training.sharding import Sharded, shard, whole_tensor
from oreo_algos.training.trained import trained_state

Found = TypeVar("Found")

_NETWORKS = ("policy", "value", "reference", "target")


class Holding:
    """The networks of one run, as this process has them.

    Attributes:
        models: what steps read and train; where networks are in parts, others than those that were given.
    """

    def __init__(
        self,
        models: Models,
        needs: Collection[str],
        config: TrainerConfig,
        ranks: Ranks,
        device: torch.device,
        *,
        bf16: bool,
    ) -> None:
        """Spread the networks that are needed, if the settings say so and there are processes to spread them over.

        Args:
            models: as they were given; with what the algorithm put there at its begin.
            needs: networks that are read beside the policy and its moving average.
            config: how.
            ranks: these processes.
            device: that computes.
            bf16: autocast to bfloat16.
        """
        self.ranks, self.device, self._given, self.models = ranks, device, models, models
        self._parts: dict[str, Sharded] = {}
        if ranks.started and config.sharding == "full":
            wanted = {"policy", "target", *needs}
            there = {name: getattr(models, name) for name in _NETWORKS if name in wanted}
            there = {name: network for name, network in there.items() if network is not None}
            found = shard(list(there.values()), device, bf16=bf16, cpu_offload=config.cpu_offload)
            self._parts = dict(zip(there, found, strict=True))
            twins: dict[str, Any] = {name: part.twin for name, part in self._parts.items()}
            self.models = replace(models, **twins)
        elif config.cpu_offload:
            raise ValueError(
                "trainer.cpu_offload is for sharded networks: start with torchrun, --nproc-per-node 1 for one GPU"
            )

    @property
    def in_parts(self) -> bool:
        """Whether a forward of a network takes all processes."""
        return bool(self._parts)

    def sum_gradients(self, networks: Collection[Network]) -> None:
        """Add up the gradients of all processes, after the last backward of a step; shards have added up theirs."""
        if not self._parts and self.ranks.size > 1:
            for network in networks:
                sum_gradients(network.parameters())

    def rest(self) -> None:
        """Let go of what forwards have gathered."""
        for part in self._parts.values():
            part.rest()

    def let_go_of_reference(self) -> None:
        """Forget the reference, of which all is known that steps read."""
        self.models.reference = self._given.reference = None
        self._parts.pop("reference", None)

    def trained_states(self, networks: Mapping[str, Network]) -> dict[str, Any]:
        """Return whole what training changes of networks, for rank 0; all ranks ask."""
        self.rest()
        states = {name: trained_state(network) for name, network in networks.items()}
        if not self._parts:
            return states
        whole = {name: {key: whole_tensor(x) for key, x in state.items()} for name, state in states.items()}
        return whole if self.ranks.leads else {}

    def ask(self, question: Callable[[], Found]) -> Found:
        """Ask something of the networks that were given, on rank 0, where they are whole meanwhile; tell all ranks."""
        asked = [part for name, part in self._parts.items() if name in ("policy", "value")]
        for part in asked:
            part.restore(self.ranks, self.device)
        if self._parts:
            self._given.policy_is_reference = self.models.policy_is_reference
        found = self.ranks.first(question)
        for part in asked:
            part.empty()
        return found

    def finish(self) -> None:
        """Put everything back into what was given: whole on rank 0, and without weights on the others."""
        for part in self._parts.values():
            part.restore(self.ranks)
        if self._parts:
            self._given.policy_is_reference = self.models.policy_is_reference
            self._given.numbers = self.models.numbers
