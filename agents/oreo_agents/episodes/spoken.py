"""An episode as text: what was asked, each step, and what was said in between; foreign text made safe to print.

Knows: messages and where actions lie in them. Does not know: tokens, consoles, pages. Loads no torch.
"""

from oreo_algos.episode import Episode
from oreo_envs.visible import visible as visible


def asked(episode: Episode) -> list[dict[str, str]]:
    """Return the messages before the first action; all of them where nobody knows where actions lie."""
    spans = episode.action_spans
    return episode.messages if spans is None else episode.messages[: int(spans[0, 0])]


def spoken_steps(episode: Episode) -> list[tuple[str, str]]:
    """Return the text of each step, and what the environment said after it.

    Raises:
        ValueError: the episode has no ``action_spans``.
    """
    if episode.action_spans is None:
        raise ValueError(f"task {episode.task_id}: this episode has no action_spans: its steps cannot be told apart")
    spans = episode.action_spans.tolist()
    following = [message for message, _, _ in spans[1:]] + [len(episode.messages)]
    return [
        (
            episode.messages[message]["content"][start:end].strip("\n"),
            "\n".join(said["content"] for said in episode.messages[message + 1 : until]),
        )
        for (message, start, end), until in zip(spans, following, strict=True)
    ]
