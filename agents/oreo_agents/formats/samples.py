"""What others' evaluations and generators write.

Sources: verifiers 0.1 (``vf-eval -s``: results.jsonl), lm-evaluation-harness 0.4 (``--log_samples``), MetaMathQA
(2023), OpenR1-Math-220k (2025-02), reasoning-gym 0.1 (results of its eval).
"""

from collections.abc import Mapping
from typing import Any

from oreo_agents.formats.chat import is_chat, turns
from oreo_agents.formats.draft import Draft, answered, scalars
from oreo_agents.formats.labels import label_of, text_field
from oreo_agents.formats.layout import Layout, Row
from oreo_agents.formats.trl import conversation
from oreo_envs.limits import read_json


def _verifiers(row: Row) -> list[Draft]:
    draft = conversation(row["prompt"], row["completion"], row, ("prompt", "completion"), label=row["reward"])
    draft.info |= scalars(row, ("task",))
    draft.truncated = bool(row.get("is_truncated"))
    return [draft]


def _harness(row: Row) -> list[Draft]:
    prompt = _harness_prompt(row["arguments"])
    responses = [text for one in row["resps"] for text in (one if isinstance(one, list) else [one])]
    if not all(isinstance(text, str) for text in responses):
        raise ValueError("resps holds no text: this task compares likelihoods, and nothing was generated")
    metrics = row.get("metrics") or [name for name in ("exact_match", "acc", "math_verify") if name in row]
    metrics = [metrics] if isinstance(metrics, str) else metrics
    label = label_of(row, metrics)
    if label is None:
        raise ValueError("there is no metric that says whether it is right (metrics)")
    if len(responses) != 1:
        raise ValueError(
            f"{len(responses)} responses share one metric, which does not say which of them is right; log samples of a "
            "task with repeats: 1"
        )
    info = {
        "target": "" if row.get("target") is None else str(row["target"]),
        "filter": str(row.get("filter", "")),
        "doc_id": str(row["doc_id"]),
    }
    return [answered(prompt, responses[0], label=label, info=info)]


def _harness_prompt(arguments: Any) -> list[dict[str, str]]:
    """The prompt of the first request: a text, or a chat as JSON."""
    first = arguments[0] if isinstance(arguments, list) else next(iter(arguments.values()), None)
    text = first.get("arg_0") if isinstance(first, Mapping) else first[0] if isinstance(first, list) else first
    if isinstance(text, list):  # of JSON that stands in a list
        text = text[0]
    try:
        said = read_json(str(text))
    except (TypeError, ValueError):
        said = None
    if is_chat(said):
        return turns(said, "arguments")[0]
    if not isinstance(text, str):
        raise ValueError(f"field 'arguments' must hold a prompt, got {arguments!r:.80}")
    return [{"role": "user", "content": text}]


def _query(row: Row) -> list[Draft]:
    return [
        answered(
            [{"role": "user", "content": text_field(row, "query")}],
            text_field(row, "response"),
            shown=True,
            info=scalars(row, ("type",)),
        )
    ]


def _open_r1(row: Row) -> list[Draft]:
    generations = row["generations"]
    if not isinstance(generations, list) or not generations:
        raise ValueError(f"field 'generations' must be a list of texts, got {generations!r:.80}")
    verdicts = [row.get(name) for name in ("correctness_math_verify", "correctness_llama", "correctness")]
    reasons = row.get("finish_reasons") or [None] * len(generations)
    drafts = []
    for number, text in enumerate(generations):
        label = next((said[number] for said in verdicts if said and said[number] is not None), None)
        prompt = [{"role": "user", "content": text_field(row, "problem")}]
        drafts.append(
            answered(prompt, text, label=label, truncated=reasons[number] == "length", info={"sample": number})
        )
    return drafts


def _reasoning_gym_file(row: Row) -> list[Draft]:
    """Read all that an evaluation wrote, of each data set of each category."""
    sets = [row] if row.get("categories") is None else [one for kind in row["categories"] for one in kind["datasets"]]
    return [
        draft
        for one in sets
        for result in one["results"]
        for draft in _reasoning_gym({"dataset": one.get("name"), **result})
    ]


def _reasoning_gym(row: Row) -> list[Draft]:
    prompt = [{"role": "user", "content": text_field(row, "question")}]
    info = scalars(row, ("dataset",))
    found = []
    for number, one in enumerate(row.get("completions") or [row]):
        text = label_of(one, ("full_model_response", "model_answer", "response", "best_full_model_response"))
        if not isinstance(text, str):
            raise ValueError(f"there is no full_model_response or model_answer, got {sorted(one)}")
        label = label_of(one, ("score", "best_score"))
        found.append(answered(prompt, text, label=label, info={**info, "sample": number}))
    return found


LAYOUTS = (
    Layout(
        name="verifiers",
        columns=("prompt", "completion", "reward", "answer|task|example_id|info"),
        about="verifiers, results of vf-eval",
        read=_verifiers,
    ),
    Layout(
        name="lm-eval",
        columns=("doc_id", "arguments", "resps"),
        about="lm-evaluation-harness, --log_samples of tasks that generate",
        read=_harness,
        one_of=lambda row: row.get("filter"),
    ),
    Layout(
        name="openr1",
        columns=("problem", "generations"),
        about="OpenR1-Math, an episode a generation",
        read=_open_r1,
    ),
    Layout(
        name="reasoning-gym",
        columns=("question", "score|completions|best_score"),
        about="reasoning-gym, results of its eval",
        read=_reasoning_gym,
        fits=lambda row: (
            any(isinstance(row.get(name), str) for name in ("full_model_response", "model_answer", "response"))
            or (isinstance(row.get("completions"), list) and all(isinstance(one, dict) for one in row["completions"]))
            or isinstance(row.get("best_full_model_response"), str)
        ),
    ),
    Layout(
        name="reasoning-gym-eval",
        columns=("categories|results",),
        about="reasoning-gym, the file that its eval writes: of all data sets, or of one",
        read=_reasoning_gym_file,
        fits=lambda row: any(isinstance(row.get(name), list) and row[name] for name in ("categories", "results")),
    ),
    Layout(
        name="metamath",
        columns=("query", "response"),
        about="MetaMathQA; solutions to imitate",
        read=_query,
    ),
)
