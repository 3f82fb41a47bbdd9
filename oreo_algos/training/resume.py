"""What a checkpoint of a training run holds, and how a run goes on from one, on as many processes as it then has.

Knows: the parts of a run. Does not know: steps, files (``storage.checkpoint``).
"""

import logging
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from oreo_algos.storage.checkpoint import keep_last, load_last_checkpoint, save_checkpoint, save_together
from oreo_algos.storage.shards import Place, each_tensor
from oreo_algos.training.sharding import spread_like
from oreo_algos.training.trained import load_trained_state, trained_state

if TYPE_CHECKING:
    from oreo_algos.training.trainer import _Run

_log = logging.getLogger(__name__)


def save_run(run: "_Run") -> None:
    """Write a checkpoint of a run as it is; all of its processes together."""
    run.holding.rest()
    models = run.models
    state: dict[str, Any] = {
        "fingerprint": run.fingerprint,
        "step": run.step,
        "num_tokens": run.num_tokens,
        "cpu_seconds": sum(run.ranks.gather(run.spent())),
        "metrics": run.last_metrics,
        "scores": [list(one) for one in run.curve.scores],
        "policy_is_reference": models.policy_is_reference,
        "numbers": dict(models.numbers),
        "target": None if models.target is None else trained_state(models.target, models.policy),
    }
    state["networks"] = {name: [trained_state(network)] for name, network in run.networks.items()}
    for kind, parts in (("optimizers", run.optimizers), ("schedulers", run.schedulers)):
        state[kind] = {name: [part.state_dict() for part in each] for name, each in parts.items()}
    if run.ranks.size > 1 or run.holding.in_parts:
        save_together(run.folder, run.step, state, keep=run.config.keep_checkpoints, ranks=run.ranks)
    else:
        state["torch_rng"] = torch.get_rng_state()
        state["cuda_rng"] = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        save_checkpoint(run.folder, run.step, state, keep=run.config.keep_checkpoints)
    run.curve.settle()


def restore_run(run: "_Run") -> None:
    """Go on from the last checkpoint of a run's folder, if there is one, whoever wrote it.

    Raises:
        ValueError: it cannot be read, or belongs to another run.
    """
    like = _Likes(run)
    if run.ranks.leads:
        keep_last(run.folder, run.config.keep_checkpoints)
    run.ranks.barrier()
    state = load_last_checkpoint(run.folder, like)
    if state is None:
        run.curve.settle()
        return
    if state["fingerprint"] != run.fingerprint:
        raise ValueError(
            f"{run.folder}: the checkpoint of step {state['step']} there belongs to a run with another "
            "configuration or buffer; choose another folder or delete this one"
        )
    if run.holding.in_parts:
        state = each_tensor(state, lambda tensor, place: _part(tensor, like(place)))
    for name, network in run.networks.items():
        load_trained_state(network, state["networks"][name][0])
    kinds: dict[str, Any] = {"optimizers": run.optimizers, "schedulers": run.schedulers}
    for kind, parts in kinds.items():
        for name, each in parts.items():
            for part, saved in zip(each, state[kind][name], strict=True):
                part.load_state_dict(saved)
    run.step, run.num_tokens = state["step"], state["num_tokens"]
    run.cpu_seconds = state["cpu_seconds"] if run.ranks.leads else 0.0
    run.last_metrics = state["metrics"]
    run.curve.restore(state.get("scores", []))  # a checkpoint of an earlier release has none
    models = run.models
    models.policy_is_reference = state["policy_is_reference"]
    models.numbers = state["numbers"]
    if models.target is not None:
        load_trained_state(models.target, state["target"])
    if run.ranks.size == 1 and "torch_rng" in state:
        torch.set_rng_state(state["torch_rng"])
        if state["cuda_rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda_rng"])
    _log.info("continuing %s from step %d", run.folder, run.step)


class _Likes:
    """What the tensors of a checkpoint are to be like in this process."""

    def __init__(self, run: "_Run") -> None:
        """Nothing is looked up yet."""
        self._run = run
        self._states: dict[str, dict[str, Tensor]] = {}

    def __call__(self, place: Place) -> Tensor | None:
        """Return the parameter that a tensor belongs to; None: to none."""
        run = self._run
        match place:
            case ("networks", name, _, key):
                return self._state(name, run.networks[name]).get(key)
            case ("target", key):
                return self._state("target", run.models.target).get(key)
            case ("optimizers", name, number, "state", index, _):
                groups = run.optimizers[name][int(number)].param_groups
                return [parameter for group in groups for parameter in group["params"]][int(index)]
        return None

    def _state(self, name: str, network: Any) -> dict[str, Tensor]:
        if name not in self._states:
            self._states[name] = {} if network is None else network.state_dict()
        return self._states[name]


def _part(tensor: Tensor, like: Tensor | None) -> Tensor:
    """Return what this process keeps of a tensor that may be whole."""
    same = like is not None and type(tensor) is Tensor and tensor.shape == like.shape
    return spread_like(tensor, like) if same and like is not None else tensor
