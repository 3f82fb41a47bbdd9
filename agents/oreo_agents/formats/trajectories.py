"""Whole conversations and answers with a verdict: agents' data sets, the authors' rows, our own.

Sources: AgentTraj-L (AgentGym, 2024), ETO's SFT data (2024), rows of the authors' trainer (``prompt, response, reward``
and, of ALFWorld, ``conversations, reward``), Alpaca, LMSYS-Chat-1M and UltraChat (both
2023). Ours are those that ``oreo data export`` writes.
"""

from collections.abc import Sequence
from typing import Any

from oreo_agents.formats.chat import SAME, turns
from oreo_agents.formats.draft import Draft, answered
from oreo_agents.formats.labels import LABELS, label_of, text_field
from oreo_agents.formats.layout import Layout, Row
from oreo_envs.limits import read_json

_TASKS = ("task_id", "item_id", "id")


def _talk(row: Row, *columns: str, labelled: bool) -> list[Draft]:
    column = next((name for name in columns if row.get(name) is not None), columns[0])
    said, learned = turns(row.get(column), column, row)
    label = label_of(row)
    if labelled and label is None:
        raise ValueError(f"there is no {' or '.join(LABELS)} to say how it ended")
    name = label_of(row, _TASKS)
    return [
        Draft(
            messages=said,
            turns=[place for place, learn in enumerate(learned) if learn],
            label=label,
            shown=label is None,
            task_id=None if name is None else str(name),
        )
    ]


def _own(row: Row) -> list[Draft]:
    """Read what ``oreo data export`` writes beside the columns of others: an episode as it was."""
    said = row.get("messages") or row.get("conversations") or [*(row.get("prompt") or ()), *row["completion"]]
    try:
        messages = [
            {"role": SAME.get(one["from"], one["from"]), "content": one["value"]}
            if "from" in one
            else {"role": one["role"], "content": one["content"]}
            for one in said
        ]
    except (TypeError, KeyError):
        raise ValueError(f"a message has role and content, got {said!r:.80}") from None
    spans, rewards = row["action_spans"], row["rewards"]
    if not isinstance(spans, list) or not isinstance(rewards, list) or len(spans) != len(rewards) or not rewards:
        raise ValueError(f"action_spans and rewards must be lists of one entry an action, got {spans!r:.60}")
    if row.get("label") not in (None, row["success"]):  # that TRL reads
        raise ValueError(f"label is {row['label']!r} and success is {row['success']!r}; give both alike")
    info = row.get("info") or "{}"
    return [
        Draft(
            messages=messages,
            turns=sorted({int(span[0]) for span in spans}),
            label=bool(row["success"]),
            exact=(rewards, spans),
            task_id=str(row["task_id"]),
            env_id=str(row["env_id"]),
            truncated=bool(row.get("truncated")),
            terminated=bool(row.get("terminated")),
            info=read_json(info) if isinstance(info, str) else dict(info),
        )
    ]


def _answer(question: str, labels: Sequence[str]) -> Any:
    def read(row: Row) -> list[Draft]:
        asked = text_field(row, question)
        prompt = [{"role": "user", "content": asked}]
        cut = row.get("finish_reason") in ("length", "max_tokens")
        response = text_field(row, "response")
        name = label_of(row, ("task_id",))
        return [
            answered(
                prompt,
                response,
                label=label_of(row, labels),
                question=asked,
                truncated=cut,
                task_id=None if name is None else str(name),
            )
        ]

    return read


def _chat_answer(row: Row) -> list[Draft]:
    said, _ = turns(row["prompt"], "prompt", row)
    cut = row.get("finish_reason") in ("length", "max_tokens")
    return [answered(said, text_field(row, "response"), label=label_of(row), truncated=cut)]


def _alpaca(row: Row) -> list[Draft]:
    asked = text_field(row, "instruction")
    more = row.get("input")
    said = [{"role": "user", "content": f"{asked}\n\n{more}" if isinstance(more, str) and more.strip() else asked}]
    for question, answer in reversed(row.get("history") or ()):
        said[:0] = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    prompt, _ = turns(said, "instruction", row)
    return [answered(prompt, text_field(row, "output"), label=label_of(row), shown=label_of(row) is None)]


def _alternating(row: Row) -> list[Draft]:
    roles = ("user", "assistant")
    said = [{"role": roles[number % 2], "content": text} for number, text in enumerate(row["data"])]
    return _talk({**row, "messages": said}, "messages", labelled=False)


OWN = Layout(
    name="oreo",
    columns=("messages|conversations|completion", "action_spans", "rewards", "success", "task_id", "env_id"),
    about="what oreo data export writes: episodes as they were",
    read=_own,
)

LAYOUTS = (
    Layout(
        name="conversations-reward",
        columns=("conversations|conversation", "|".join(LABELS)),
        about="the authors' rows of ALFWorld; agents' trajectories with a verdict",
        read=lambda row: _talk(row, "conversations", "conversation", labelled=True),
    ),
    Layout(
        name="sharegpt",
        columns=("conversations|conversation",),
        about="ShareGPT, AgentTraj-L, ETO; conversations to imitate",
        read=lambda row: _talk(row, "conversations", "conversation", labelled=False),
    ),
    Layout(
        name="messages",
        columns=("messages", "|".join(LABELS)),
        about="OpenAI's messages with a verdict",
        read=lambda row: _talk(row, "messages", labelled=True),
    ),
    Layout(
        name="ultrachat",
        columns=("data",),
        about="UltraChat, texts of user and assistant in turn; conversations to imitate",
        read=_alternating,
        fits=lambda row: (
            isinstance(row["data"], list) and len(row["data"]) > 1 and all(isinstance(one, str) for one in row["data"])
        ),
    ),
    Layout(
        name="labelled",
        columns=("question", "response", "|".join(LABELS)),
        about="solutions with a verdict",
        read=_answer("question", ("correct", *LABELS)),
    ),
    Layout(
        name="chat-response",
        columns=("prompt", "response"),
        about="the authors' rows with messages as prompt; without a verdict the environment grades",
        read=_chat_answer,
        fits=lambda row: isinstance(row["prompt"], list),
    ),
    Layout(
        name="prompt-response",
        columns=("prompt", "response"),
        about="the authors' rows, perhaps with a verdict; without one the environment grades",
        read=_answer("prompt", LABELS),
    ),
    Layout(
        name="alpaca",
        columns=("instruction", "output"),
        about="Alpaca; answers to imitate",
        read=_alpaca,
    ),
)
