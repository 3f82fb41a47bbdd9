"""As little of a model as shows what it can do: its first layers, a few rows of its head, a short window.

Knows: how transformers models hold their layers. Does not know: what is tried.

A trial is made of real modules with their real weights, so that it is the path that is relied on; but a model of half a
billion weights is not read through a dozen times before it is used once.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from oreo_agents.networks.index_ties import indexers

# A window that a trial of a few tokens reaches beyond; what is longer is tried at this length.
WINDOW = 4
_WINDOWS = ("sliding_window", "attention_chunk_size")

_HEAD_ROWS = 256

# Errors of code that was made for other inputs, masks or caches.
_UNABLE = (
    TypeError,
    ValueError,
    RuntimeError,
    AttributeError,
    IndexError,
    KeyError,
    AssertionError,
    NotImplementedError,
)


def tried(model: PreTrainedModel, trial: Callable[[], str | None]) -> str | None:
    """Try something with a model, on as little of it as shows its kind; on all of it before it is said to fail.

    Args:
        model: is as it was afterwards.
        trial: returns None where all is right, else why not; it may raise what code raises that was made for other
            inputs.

    Returns:
        None where all is right, else why not.

    Raises:
        torch.OutOfMemoryError: this is no reason to go another way.
    """
    with _short_window(model):
        with _first_layers(model) as smaller:
            reason = _reason(trial)
        return _reason(trial) if reason is not None and smaller else reason


def _reason(trial: Callable[[], str | None]) -> str | None:
    try:
        with torch.no_grad():
            return trial()
    except _UNABLE as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        first = (str(error).strip() or "no reason given").splitlines()[0]
        return f"{type(error).__name__}: {first[:160]}"


@contextmanager
def _short_window(model: PreTrainedModel) -> Iterator[None]:
    """Let a window that is longer than a trial be short, and let few keys be read where the best are.

    Masks and caches are made by what the configuration says.
    """
    config = model.config.get_text_config()
    with ExitStack() as stack:
        for name in _WINDOWS:
            window = getattr(config, name, None)
            if isinstance(window, int) and window > WINDOW:
                stack.enter_context(_set(config, name, WINDOW))
        for indexer in indexers(model):
            for name, count in list(vars(indexer).items()):
                if "topk" in name and isinstance(count, int) and count > WINDOW:
                    stack.enter_context(_set(indexer, name, WINDOW))
        yield


@contextmanager
def _first_layers(model: PreTrainedModel) -> Iterator[bool]:
    """Leave the first layers, so many that each kind is among them, and the first rows of the head.

    Yields:
        Whether anything was left out.
    """
    config = model.config.get_text_config()
    total = getattr(config, "num_hidden_layers", 0)
    stacks = [
        (parent, name, layers)
        for parent in model.modules()
        for name, layers in parent.named_children()
        if isinstance(layers, nn.ModuleList) and len(layers) == total
    ]
    wanted = max((_layers_of_each_kind(layers) for _, _, layers in stacks), default=total)
    head: Any = model.get_output_embeddings()
    with ExitStack() as stack:
        if wanted < total:
            stack.enter_context(_set(config, "num_hidden_layers", wanted))
            for name in ("layer_types", "mlp_layer_types"):
                if isinstance(kinds := getattr(config, name, None), list) and len(kinds) == total:
                    stack.enter_context(_set(config, name, kinds[:wanted]))
            for parent, name, layers in stacks:
                stack.enter_context(_set(parent, name, layers[:wanted]))
        few_rows = type(head) is nn.Linear and head.bias is None and head.out_features > 2 * _HEAD_ROWS
        if few_rows:
            stack.enter_context(_set(head, "weight", nn.Parameter(head.weight[:_HEAD_ROWS], requires_grad=False)))
        yield wanted < total or few_rows


@contextmanager
def _set(owner: nn.Module | PretrainedConfig, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _layers_of_each_kind(layers: nn.ModuleList) -> int:
    """Return how many of the first layers, at least two, have all the kinds that there are."""
    kinds = [_kind(layer) for layer in layers]
    return max([2, *(kinds.index(kind) + 1 for kind in set(kinds))])


def _kind(layer: nn.Module) -> tuple[Any, ...]:
    """Tell layers apart by their modules and by what these were told, their number apart."""
    return tuple((name, type(module), *_told(module)) for name, module in layer.named_modules())


def _told(module: nn.Module) -> list[tuple[str, Any]]:
    settings = vars(module).items()
    return sorted(
        (name, value)
        for name, value in settings
        if isinstance(value, bool | int | str) and not name.startswith("_") and not ("layer" in name or "idx" in name)
    )
