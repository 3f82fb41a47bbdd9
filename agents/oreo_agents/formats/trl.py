"""The types of TRL's data sets, as strings and as conversations.

Source: "Dataset formats and types" of TRL 1.16: language modeling, prompt-only, prompt-completion, unpaired preference,
preference with an explicit or an implicit prompt, stepwise supervision; scores as in
``trl-lib/ultrafeedback_binarized`` and Argilla's; prompts of other names as in ``Intel/orca_dpo_pairs`` and
LLaMA-Factory's; OpenAI's preferences (2025-06); Step-DPO (2024). A prompt that is a text becomes what the user says.
"""

from collections.abc import Mapping
from typing import Any

from oreo_agents.formats.chat import Message, is_chat, transcript, turns
from oreo_agents.formats.draft import Draft, digest, scalars
from oreo_agents.formats.labels import LABELS, label_of, number
from oreo_agents.formats.layout import Layout, Row

_SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_rating", "rejected_rating"),
    ("chosen-rating", "rejected-rating"),
)


def conversation(prompt: Any, completion: Any, row: Row, names: tuple[str, str], **fields: Any) -> Draft:
    """Return the draft of a completion, a text or messages, to a prompt, a text or messages.

    Args:
        prompt: what is not learned from.
        completion: whose messages of the assistant are.
        row: with what the system says and ``tools``, perhaps.
        names: of the columns, for errors.
        fields: of the draft.

    Raises:
        ValueError: it is no such thing.
    """
    opening = _listed(prompt, "user", names[0])
    if isinstance(completion, str) and not completion.strip():
        raise ValueError(f"field {names[1]!r} is empty")
    if isinstance(completion, str) and transcript(prompt):
        completion = completion.strip()
    said, learned = turns([*opening, *_listed(completion, "assistant", names[1])], names[1], row)
    before = len(turns(opening, names[0], row)[0])
    places = [place for place, learn in enumerate(learned) if learn and place >= before]
    return Draft(messages=said, turns=places, **fields)


def _listed(value: Any, role: str, column: str) -> list[Any]:
    if isinstance(value, str):
        return (role == "user" and transcript(value)) or [{"role": role, "content": value}]
    if isinstance(value, Mapping):
        return [value]
    if not is_chat(value):
        raise ValueError(f"field {column!r} must be a text or a list of chat messages, got {value!r:.80}")
    return list(value)


def _completion(row: Row) -> list[Draft]:
    return [conversation(row["prompt"], row["completion"], row, ("prompt", "completion"), shown=True)]


def _unpaired(row: Row) -> list[Draft]:
    label = label_of(row, ("label", *LABELS))
    return [conversation(row["prompt"], row["completion"], row, ("prompt", "completion"), label=label)]


def _messages(row: Row) -> list[Draft]:
    said, learned = turns(row["messages"], "messages", row)
    return [Draft(messages=said, turns=[place for place, learn in enumerate(learned) if learn], shown=True)]


def _text(row: Row) -> list[Draft]:
    if not isinstance(row["text"], str) or not row["text"].strip():
        raise ValueError(f"field 'text' must be a text that is not empty, got {row['text']!r:.80}")
    said = [{"role": "user", "content": ""}, {"role": "assistant", "content": row["text"]}]
    return [Draft(messages=said, turns=[1], shown=True)]


def _prompt_only(row: Row) -> list[Draft]:
    raise ValueError(
        "a prompt without an answer, which is a task and no episode; import rows with answers, or let a policy answer "
        "them (oreo collect with an environment, such as env=qa)"
    )


def pair(prompt: Any, chosen: Any, rejected: Any, row: Row) -> list[Draft]:
    """Return both halves of a preference, the preferred one first.

    Args:
        prompt: None: what both begin with.
        chosen, rejected: texts or messages, with or without the prompt before them.
        row: with scores, perhaps, which decide.

    Raises:
        ValueError: one half is no answer, or both are the same.
    """
    if prompt is None:
        chosen, rejected = transcript(chosen) or chosen, transcript(rejected) or rejected
    if prompt is None or (is_chat(chosen) and _role(chosen[0]) != "assistant"):
        shared, chosen, rejected = _implicit(chosen, rejected)
        prompt = shared if prompt is None else _before(prompt, shared)
    if chosen == rejected:
        raise ValueError("chosen and rejected are the same, so that nothing is preferred")
    drafts = [
        conversation(prompt, half, row, ("prompt", name), label=name == "chosen")
        for name, half in (("chosen", chosen), ("rejected", rejected))
    ]
    given = [[number(row.get(name)) for name in names] for names in _SCORES]
    first, second = next((both for both in given if None not in both), (None, None))
    if first is not None and second is not None and second > first:
        drafts[0].label, drafts[1].label = False, True
    for draft, score in zip(drafts, (first, second), strict=True):
        draft.info |= scalars(row, ("source",)) | ({} if score is None else {"score": score})
    drafts.sort(key=lambda draft: not draft.label)
    name = digest(repr([draft.messages for draft in drafts]))
    for draft in drafts:
        draft.pair = name
        draft.task_id = row["task_id"] if isinstance(row.get("task_id"), str) else None
        draft.env_id = row["env_id"] if isinstance(row.get("env_id"), str) else None
    return drafts


def _before(prompt: Any, shared: Any) -> Any:
    """Return a prompt with what both answers begin with besides; usually it says the same.

    Raises:
        ValueError: they contradict.
    """
    told = turns(shared, "chosen")[0]
    if isinstance(prompt, str):
        asked, said = " ".join(prompt.split()), [" ".join(m["content"].split()) for m in told]
        if any(asked in text for text in said) or all(text in asked for text in said):
            return shared
    else:
        opening = turns(_listed(prompt, "user", "prompt"), "prompt")[0]
        if all(message in told for message in opening):
            return shared
        if not any(message in told for message in opening):
            return [*_listed(prompt, "user", "prompt"), *shared]
    raise ValueError(
        f"chosen and rejected begin with {told[0]['content']!r:.80}, and the prompt says something else, "
        f"{prompt!r:.80}; take it out of both, or drop the column"
    )


def _role(message: Any) -> Any:
    return {"gpt": "assistant"}.get(message.get("from"), message.get("role", message.get("from")))


def _implicit(chosen: Any, rejected: Any) -> tuple[Any, Any, Any]:
    """Cut what both begin with; of texts up to a blank, as TRL does, but not within a word, as TRL does too."""
    if isinstance(chosen, str) and isinstance(rejected, str):
        length = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), None)
        length = min(len(chosen), len(rejected)) if length is None else length
        after = (chosen[length:] or rejected[length:])[:1]
        while length > 0 and f"{chosen[length - 1]}{after}".isalnum():
            after = chosen[length - 1]
            length -= 1
        if length and chosen[length - 1] == " ":
            length -= 1
        if not chosen[:length].strip():
            raise ValueError("chosen and rejected do not begin alike, and there is no prompt")
        return chosen[:length], chosen[length:], rejected[length:]
    if not is_chat(chosen) or not is_chat(rejected):
        raise ValueError("chosen and rejected must both be texts, or both lists of chat messages")
    length = 0
    while length < min(len(chosen), len(rejected)) - 1 and chosen[length] == rejected[length]:
        length += 1
    shared: list[Message] = chosen[:length]
    if not shared:
        raise ValueError("chosen and rejected do not begin alike, and there is no prompt")
    return shared, chosen[length:], rejected[length:]


def _preference(row: Row) -> list[Draft]:
    prompt = next((row[name] for name in ("prompt", "question", "instruction") if row.get(name) is not None), None)
    more, begun = row.get("input"), row.get("initial_reason_steps")
    if isinstance(more, str) and more.strip():  # LLaMA-Factory's, or a prompt's only name
        prompt = more if prompt is None else f"{prompt}\n\n{more}" if isinstance(prompt, str) else prompt
    chosen, rejected = row["chosen"], row["rejected"]
    if isinstance(begun, str):  # Step-DPO's: both go on from there
        chosen, rejected = f"{begun}{chosen}", f"{begun}{rejected}"
    return pair(prompt, chosen, rejected, row)


def _openai_preference(row: Row) -> list[Draft]:
    asked = row["input"]
    return pair(asked["messages"], row["preferred_output"], row["non_preferred_output"], asked)


def _shared_conversation(row: Row) -> list[Draft]:
    return pair(row["conversations"], row["chosen"], row["rejected"], row)


def _stepwise(row: Row) -> list[Draft]:
    pieces, labels = row["completions"], row["labels"]
    if not isinstance(pieces, list) or not all(isinstance(piece, str) and piece for piece in pieces) or not pieces:
        raise ValueError(f"field 'completions' must be a list of texts, one a step, got {pieces!r:.80}")
    if not isinstance(labels, list) or len(labels) != len(pieces):
        raise ValueError(f"field 'labels' must be a list of {len(pieces)} labels, one a step, got {labels!r:.80}")
    if not all(isinstance(label, bool) or label in (0, 1, -1) for label in labels):
        raise ValueError(f"a label of a step is true or false, or 1, 0 or -1, got {labels!r:.80}")
    # TRL joins steps with a separator of its own; they are written one a line where they bring none.
    ends = ["" if piece.endswith("\n") else "\n" for piece in pieces[:-1]]
    steps = [piece + end for piece, end in zip(pieces, [*ends, ""], strict=True)]
    draft = conversation(
        row["prompt"], "".join(steps), row, ("prompt", "completions"), label=labels[-1] > 0, pieces=steps
    )
    draft.step_labels = [float(label) for label in labels]
    return [draft]


LAYOUTS = (
    Layout(
        name="trl-stepwise",
        columns=("prompt", "completions", "labels"),
        about="TRL, stepwise supervision; right where the last step is",
        read=_stepwise,
    ),
    Layout(
        name="sharegpt-preference",
        columns=("conversations", "chosen", "rejected"),
        about="LLaMA-Factory's preferences in ShareGPT's form",
        read=_shared_conversation,
    ),
    Layout(
        name="trl-preference",
        columns=("chosen", "rejected"),
        about="TRL, preference, its prompt explicit or what both begin with",
        read=_preference,
    ),
    Layout(
        name="openai-preference",
        columns=("input", "preferred_output", "non_preferred_output"),
        about="OpenAI's preferences to fine-tune on",
        read=_openai_preference,
    ),
    Layout(
        name="trl-unpaired",
        columns=("prompt", "completion", "|".join(LABELS)),
        about="TRL, unpaired preference (KTO)",
        read=_unpaired,
    ),
    Layout(
        name="trl-completion",
        columns=("prompt", "completion"),
        about="TRL, prompt-completion; answers to imitate",
        read=_completion,
    ),
)

LAST_LAYOUTS = (
    Layout(
        name="trl-messages",
        columns=("messages",),
        about="TRL, conversational language modeling, and OpenAI's messages; conversations to imitate",
        read=_messages,
    ),
    Layout(name="trl-text", columns=("text",), about="TRL, language modeling; texts to imitate", read=_text),
    Layout(name="trl-prompt", columns=("prompt",), about="TRL, prompt-only: tasks without answers", read=_prompt_only),
)
