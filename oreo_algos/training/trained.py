"""What training changes of a network, for checkpoints: what is frozen, such as the base below adapters, stays out.

Knows: names of parameters. Does not know: optimisers, files.
"""

from typing import Any

from oreo_algos.models import Network


def trained_state(network: Network, names_of: Network | None = None) -> dict[str, Any]:
    """Return the part of a network's state that its training changes.

    Args:
        network: any.
        names_of: the network that is trained where ``network`` is a copy that follows it; None: ``network``.
    """
    state = network.state_dict()
    for name, parameter in (names_of or network).named_parameters(remove_duplicate=False):
        if not parameter.requires_grad:
            state.pop(name, None)
    return state


def load_trained_state(network: Network, state: dict[str, Any]) -> None:
    """Load what `trained_state` returned, or a whole state, into a network whose frozen parameters are the same."""
    whole = network.state_dict()
    whole.update(state)
    network.load_state_dict(whole)
