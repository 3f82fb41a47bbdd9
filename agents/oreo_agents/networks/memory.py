"""What an update holds in memory at its peak, counted without a GPU and without weights.

Knows: configurations of transformers models, adapters, optimisers, what autograd saves for a backward. Does not know:
algorithms, runs, how large a device is.

The model of a configuration is made of tensors that have a shape and no numbers. It reads two batches in bfloat16, as
on a GPU, and what autograd saves of each is added up, storages once and parameters apart. Between the two lies what a
token takes; what is left, such as the casts of weights, does not grow with them.
"""

# N tokens of a micro-batch, D hidden size, V vocabulary

import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM, PretrainedConfig
from transformers.modeling_layers import GradientCheckpointingLayer

from oreo_agents.networks import packing, token_scores
from oreo_agents.networks import policy as policies
from oreo_agents.networks.adapters import Lora
from oreo_agents.networks.checkpoints import Checkpointing, base_model, checkpoint_layers
from oreo_algos.algos.base import OptimizerName
from oreo_algos.batch import Batch, collate
from oreo_algos.episode import Episode
from oreo_algos.training.optimizers import Muon, make_optimizers
from oreo_algos.training.sharding import gathered_layers

Reference = Literal["none", "copy", "apart"]
"""What reference updates read whole: none, a copy of the policy, which shares what is not trained, or another."""

_TOKENS = 16
"""Of a document of the batches that are counted: short, since what some attention holds grows with its square."""


class Bytes(NamedTuple):
    """Bytes that an update needs for anything, and further ones for each token."""

    fixed: int
    token: float

    def of(self, tokens: int) -> int:
        """Return what so many tokens need."""
        return int(self.fixed + self.token * tokens)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """How a network is trained.

    Attributes:
        dtype: of the weights that are not trained; those that are trained are float32.
        lora: adapters.
        gradient_checkpointing: see ``checkpoints.checkpoint_layers``.
    """

    dtype: torch.dtype = torch.float32
    lora: Lora = Lora()
    gradient_checkpointing: Checkpointing = False


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of an update.

    Attributes:
        tokens: of its micro-batch.
        weights: of the networks that learn.
        gradients: of what is trained.
        optimizer: its moments.
        copies: the reference that updates read, and a moving average.
        saved: for the backward, of all networks that learn.
        work: the larger of what the head computes with and of what one layer needs that is computed again.
        gathered: of networks in parts, what is whole at one time, and its gradients.
    """

    tokens: int
    weights: int
    gradients: int
    optimizer: int
    copies: int
    saved: int
    work: int
    gathered: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return sum(getattr(self, part.name) for part in fields(self)[1:])

    def __str__(self) -> str:
        """One line, in units of 10^9 bytes."""
        shown = [part.name for part in fields(self)[1:] if part.name != "gathered" or self.gathered]
        parts = ", ".join(f"{name} {getattr(self, name) / 1e9:.1f}" for name in shown)
        return f"an update of {self.tokens:,} tokens holds {self.total / 1e9:.1f} GB at its peak: {parts}"


@dataclass(frozen=True)
class _Network:
    """What one network holds; the output embedding counts where it is one that scores tokens."""

    weights: int
    trained: int
    moments: int
    saved: Bytes
    layer: Bytes
    head: Bytes
    features: int
    states: int
    outside: int
    largest: int


def predict(
    config: PretrainedConfig,
    *,
    tokens: int,
    policy: Trained,
    value: Trained | None = None,
    reference: Reference = "none",
    moving_average: bool = False,
    optimizer: OptimizerName = "adamw",
    parts: int = 1,
    cpu_offload: bool = False,
) -> Memory:
    """Return what an update of networks of one architecture holds at its peak.

    Every token of the micro-batch counts as one of an action. What allocators and kernels keep for themselves comes on
    top.

    Args:
        config: of the policy; a value network has the same trunk.
        tokens: of a micro-batch, ``trainer.micro_batch_tokens``, or the longest episode if that is longer.
        policy: how it is trained.
        value: how it is trained; None: there is none.
        reference: what of it stays at hand; ``none`` where its log-probabilities are enough.
        moving_average: whether a copy of the policy follows it.
        optimizer: of both.
        parts: processes over which weights, gradients and optimisers are spread (``trainer.sharding=full``).
        cpu_offload: those parts lie in the memory of the host.

    Raises:
        ValueError: the model of this configuration cannot be made or read without numbers.
    """
    try:
        found = {how: _count(config, how, optimizer) for how in {policy, value} if how is not None}
    except (TypeError, ValueError, RuntimeError, AttributeError, NotImplementedError, ImportError) as error:
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else ""
        raise ValueError(f"{config.model_type}: not counted ({type(error).__name__}: {first})") from error
    actor, critic = found[policy], None if value is None else found[value]
    learning = [actor] if critic is None else [actor, critic]
    # What the heads read is saved once more: of the policy the rows that are scored, of the value all.
    heads = actor.features + (0 if critic is None else critic.states)
    spread = parts > 1 or cpu_offload
    twin = actor.weights if spread else 4 * actor.trained  # in parts nothing is shared
    copies = {"none": 0, "copy": twin, "apart": actor.weights}[reference]
    # The divergence of whole distributions needs what the heads of both read; the gradient of the head comes on top.
    read = actor.features * tokens if reference != "none" else 0
    copies += twin if moving_average else 0
    whole = {"none": 0, "copy": 1, "apart": 1}[reference] + moving_average
    gathered = 0
    if spread:
        # Embeddings and heads of all networks that are read; of the largest layer one that computes and the next one in
        # bfloat16, and gradients, of which those of embeddings and heads wait for the end of the backward.
        gathered = whole * actor.outside + sum(2 * network.outside for network in learning) + 5 * actor.largest // 2
    here = 0 if cpu_offload else 1 / parts
    return Memory(
        tokens=tokens,
        weights=int(here * sum(network.weights for network in learning)),
        gradients=int(here * sum(4 * network.trained for network in learning)),
        optimizer=int(here * sum(network.moments for network in learning)),
        copies=int(here * copies) + read,
        gathered=gathered,
        saved=sum(network.saved.of(tokens) for network in learning) + heads * tokens,
        work=max(actor.head.of(tokens), *(network.layer.of(tokens) for network in learning)),
    )


def _count(config: PretrainedConfig, how: Trained, optimizer: OptimizerName) -> _Network:
    """Count what a causal language model of a configuration holds, trained in a given way."""
    batches = [_batch(documents) for documents in (1, 2)]
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(copy.deepcopy(config), dtype=how.dtype).eval()
        network = how.lora.wrap(model)
    with FakeTensorMode(allow_non_fake_inputs=True):
        _move(network)
        head = model.get_output_embeddings()
        plain = _head_is_plain(model, head)
        reads = partial(_read, model if not plain else base_model(network), model)
        # What a layer holds, of those that are computed again; then what is held in place of it.
        layers = [module for module in network.modules() if isinstance(module, GradientCheckpointingLayer)]
        again = bool(how.gradient_checkpointing and layers)
        layer = _largest(_between(*(_saved(reads, batch, layers)[0] for batch in batches))) if again else Bytes(0, 0)
        if again:
            checkpoint_layers(network)
        (one, hidden), (two, _) = (_saved(reads, batch, []) for batch in batches)
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        made = make_optimizers(network, optimizer, lr=1.0, weight_decay=0.0)
        moments = {4 if isinstance(each, Muon) else 8: each.param_groups for each in made}
        elements = sum(parameter.numel() for parameter in trained)
        trains_head = any(parameter is head.weight for parameter in trained)
        tile = token_scores._GPU_TILE[1]
        parts = list(gathered_layers(network))
        return _Network(
            weights=sum(t.numel() * t.element_size() for t in (*network.parameters(), *network.buffers())),
            trained=elements,
            moments=sum(n * p.numel() for n, groups in moments.items() for group in groups for p in group["params"]),
            saved=_between(one, two)[None],
            layer=layer,
            # Two tiles and the gradient of one in bfloat16; gradients of the weight and of what it is multiplied with.
            # Else log-probabilities of some tokens, their gradient and what it is made of.
            head=Bytes(10 * tile + 4 * head.weight.numel() * trains_head, 4 * hidden.shape[-1])
            if plain
            else Bytes(12 * policies._CHUNK_ELEMENTS, 0),
            # Rows that are scored, of states or logits; where they stand, and three sums.
            features=hidden.shape[-1] * hidden.element_size() + 20,
            states=4 * config.get_text_config().hidden_size,
            outside=_bytes(network) - sum(map(_bytes, parts)),
            largest=max(map(_bytes, parts), default=0),
        )


def _bytes(module: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())


def _move(network: nn.Module) -> None:
    """Move a network from the device without memory to a CPU without numbers, of which autocast has heard."""
    moved: dict[Tensor, Tensor] = {}
    for module in network.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is not None and tensor not in moved:
                    empty = torch.empty(tensor.shape, dtype=tensor.dtype)
                    trained = isinstance(tensor, nn.Parameter)
                    moved[tensor] = nn.Parameter(empty, tensor.requires_grad) if trained else empty
                held[name] = None if tensor is None else moved[tensor]  # type: ignore[assignment]


def _batch(documents: int) -> Batch:
    """Return a batch of documents of one length, no two alike, of which every token but the first is an action's."""
    step_id = np.minimum(np.arange(_TOKENS) - 1, 0)
    episodes = [
        Episode(
            tokens=np.full(_TOKENS, 5 + number),
            step_id=step_id,
            rewards=np.zeros(1, np.float32),
            terminated=True,
            truncated=False,
            task_id="",
            env_id="",
        )
        for number in range(documents)
    ]
    batch = collate(episodes)
    packing.pack(batch)  # laid out now: that reads numbers
    return batch


def _read(called: nn.Module, model: Any, batch: Batch) -> Tensor:
    """Read a batch as the networks do: packed where the model can, padded otherwise."""
    try:
        model.set_attn_implementation(packing.NAME)
        output: Tensor = called(**packing.pack(batch).inputs(batch.tokens), use_cache=False)[0]
    except (TypeError, ValueError, RuntimeError, NotImplementedError):
        model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")
        output = called(batch.tokens, use_cache=False)[0]
    return output


def _saved(reads: Any, batch: Batch, layers: Sequence[nn.Module]) -> tuple[dict[int | None, int], Tensor]:
    """Add up what autograd saves, parameters apart: by the place of the layer in a list, None: outside of these.

    Returns:
        Bytes, and the output.
    """
    storages: dict[int, tuple[int | None, torch.UntypedStorage]] = {}
    now: list[int | None] = [None]

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            storages.setdefault(storage._cdata, (now[-1], storage))
        return tensor.detach()  # what a node has computed itself would hold that node for ever

    saving = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with _entered(layers, now), saving, torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
        output = reads(batch)
    found: Counter[int | None] = Counter({None: 0})
    for place, storage in storages.values():
        found[place] += storage.nbytes()
    return found, output


@contextmanager
def _entered(layers: Sequence[nn.Module], now: list[int | None]) -> Iterator[None]:
    """Keep at the end of a list the place of the layer that computes."""
    hooks = []
    for place, layer in enumerate(layers):
        hooks.append(layer.register_forward_pre_hook(lambda *_, place=place: now.append(place)))
        hooks.append(layer.register_forward_hook(lambda *_: now.__delitem__(-1)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _between(one: Mapping[int | None, int], two: Mapping[int | None, int]) -> dict[int | None, Bytes]:
    """Tell apart what grows with the tokens, of what one and two documents need."""
    return {
        place: Bytes(2 * one.get(place, 0) - more, (more - one.get(place, 0)) / _TOKENS) for place, more in two.items()
    }


def _largest(layers: Mapping[int | None, Bytes]) -> Bytes:
    """Return what the layer needs that needs most."""
    return max((each for place, each in layers.items() if place is not None), key=lambda each: each.token)


@torch.no_grad()
def _head_is_plain(model: Any, head: nn.Module) -> bool:
    """Say whether the logits are what the output embedding says and nothing else, see ``CausalPolicy``."""
    said: list[Tensor] = []
    hook = head.register_forward_hook(lambda module, inputs, output: said.append(output))
    try:
        logits = model(torch.zeros(1, 2, dtype=torch.long), use_cache=False).logits
    finally:
        hook.remove()
    # A cast to float32 is all that may happen to them.
    return type(head) is nn.Linear and len(said) == 1 and (logits is said[0] or logits.dtype != said[0].dtype)
