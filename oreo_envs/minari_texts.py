"""What a text episode is in Minari's arrays, and back; without Minari.

Knows: which message each text is of. Does not know: storages, buffers.
A data set's first info holds ``more``, JSON with the ``messages`` of the opening and the ``env_id``, and with what
texts and infos do not say of the episode as it was, ``episode``: texts that cannot be stored, several messages between
actions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from oreo_envs.limits import read_json

Message = dict[str, str]
Span = list[int]


def conversation(
    opening: Sequence[Message] | None, observations: Sequence[str], actions: Sequence[str]
) -> tuple[list[Message], list[Span]]:
    """Return messages, and (message, start, end) of each action.

    Args:
        opening: what was said before the first action; None: the first observation, by the user.
        observations: [actions + 1]; one that is "" said nothing: the next action goes on in the same message.
        actions: of the assistant.
    """
    said = [{"role": "user", "content": observations[0]}] if opening is None else [dict(one) for one in opening]
    spans: list[Span] = []
    own = False
    for action, told in zip(actions, observations[1:], strict=True):
        start = len(said[-1]["content"]) if own else 0
        if own:
            said[-1]["content"] += action
        else:
            said.append({"role": "assistant", "content": action})
        spans.append([len(said) - 1, start, start + len(action)])
        own = not told
        if told:
            said.append({"role": "user", "content": told})
    return said, spans


def told_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``messages, action_spans, info, task_id, success, env_id`` of an episode's arrays.

    Args:
        row: ``observations, actions, rewards`` and perhaps ``infos``, whose arrays have a value a state.

    Returns:
        What is not said is None; ``success`` then is the return.

    Raises:
        ValueError: what ``more`` holds is of another form.
    """
    infos = row.get("infos") or {}
    last = {name: values[-1] for name, values in infos.items() if _listed(values)}
    first = _more(infos, 0)
    more = _more(infos, -1)
    told = {
        "task_id": last.get("task_id"),
        "success": last.get("success", sum(row["rewards"])),
        "env_id": first.get("env_id") or row.get("env_id"),
        "info": {
            **({"answer": last["answer"]} if last.get("answer") else {}),
            **({"success": bool(last["success"])} if "success" in last else {}),
            **{name: value for name, value in more.items() if value is None or isinstance(value, str | int | float)},
        },
    }
    opening, whole = first.get("messages"), first.get("episode", {})
    if not isinstance(opening, list | None) or not all(isinstance(one, dict) for one in opening or ()):
        raise ValueError(f"messages of the opening: expected a list of messages, got {opening!r:.80}")
    if not isinstance(whole, dict):
        raise ValueError(f"episode: expected an object, got {whole!r:.80}")
    said, spans = conversation(opening, row["observations"], row["actions"])
    return {**told, "messages": said, "action_spans": spans, **whole}


def _listed(values: Any) -> bool:
    return isinstance(values, Sequence) and not isinstance(values, str) and len(values) > 0


def _more(infos: Mapping[str, Any], state: int) -> dict[str, Any]:
    values = infos.get("more")
    try:
        found = read_json(values[state]) if values is not None and _listed(values) else {}
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
