"""What is asked of a server of vLLM, and whether what comes back is an answer to it.

Knows: the bodies of /v1/completions and /pooling. Does not know: HTTP, policies.
Everything goes as token ids. Fields that an engine does not know are ignored by it without a word, so nothing is
believed that the answer does not show.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oreo_agents.engines.line import ServerError

# Log-probabilities that come a little above 0 by rounding.
_ABOVE = 1e-3


@dataclass(frozen=True)
class Asked:
    """A request for tokens.

    Attributes:
        prompt: token ids.
        max_tokens: new tokens at most.
        temperature: 0: the likeliest tokens.
        seed: of the draw; nothing at temperature 0.
        end_ids: tokens after which to stop.
        allowed: the only tokens that may be said; None: any.
    """

    prompt: Sequence[int]
    max_tokens: int
    temperature: float
    seed: int | None
    end_ids: Collection[int]
    allowed: Sequence[int] | None = None

    def body(self, model: str, version: str) -> dict[str, Any]:
        """Return the request; ``version`` tells the weights, so that no cache of other weights is used."""
        body: dict[str, Any] = {
            "model": model,
            "prompt": list(self.prompt),
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            # Said in full: a server fills in what a generation_config.json has for the rest.
            "top_p": 1.0,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "n": 1,
            "logprobs": 0,
            "return_token_ids": True,
            "stop_token_ids": sorted(self.end_ids),
            "ignore_eos": True,
            "skip_special_tokens": False,
            "cache_salt": version,
        }
        if self.seed is not None:
            body["seed"] = self.seed
        if self.allowed is not None:
            body["allowed_token_ids"] = list(self.allowed)
        return body


def read_answer(reply: Any, asked: Asked, model: str, vocabulary: int, url: str) -> tuple[list[int], list[float]]:
    """Return the new tokens, and the log-probability of each.

    Raises:
        ServerError: this is no answer to what was asked.
    """
    where = f"{url}/v1/completions"
    choice = _only_choice(reply, where)
    if reply.get("model") != model:
        raise ServerError(f"{where} answers as model {reply.get('model')!r}, and {model!r} was asked (sampler.model)")
    tokens, prompt = choice.get("token_ids"), choice.get("prompt_token_ids", reply.get("prompt_token_ids"))
    if not isinstance(tokens, list) or not _is_ids(tokens, vocabulary) or prompt is None:
        raise ServerError(
            f"{where} answers without token ids of this policy's vocabulary ({vocabulary} tokens): text cannot be "
            "turned back into the tokens that were drawn. Use vLLM 0.10.2 or newer (return_token_ids), and "
            "the same checkpoint"
        )
    if prompt != list(asked.prompt):
        raise ServerError(
            f"{where} read another prompt than was sent ({_difference(prompt, asked.prompt)}): something between adds, "
            "cuts or translates tokens; ask vLLM itself, without a proxy that rewrites requests"
        )
    numbers = (choice.get("logprobs") or {}).get("token_logprobs")
    if not isinstance(numbers, list) or len(numbers) != len(tokens) or not all(map(_is_logprob, numbers)):
        raise ServerError(
            f"{where} gives no log-probability for each of its {len(tokens)} tokens: the episodes would lack those of "
            "their policy. Start the server with --max-logprobs 1 or more"
        )
    _require_end(choice.get("finish_reason"), tokens, asked, where)
    if asked.allowed is not None and not {*tokens} <= {*asked.allowed}:
        raise ServerError(
            f"{where} said tokens that were not among the allowed ones: it does not know allowed_token_ids; use vLLM "
            "0.10.2 or newer, or a search that does not constrain"
        )
    return tokens, [min(float(number), 0.0) for number in numbers]


def _require_end(reason: object, tokens: Sequence[int], asked: Asked, where: str) -> None:
    """Check that an answer ends where it should, and nowhere else."""
    ended = bool(tokens) and tokens[-1] in asked.end_ids
    early = [token for token in tokens[:-1] if token in asked.end_ids]
    if early:
        raise ServerError(f"{where} went on after the end token {early[0]}: it does not know stop_token_ids; use vLLM")
    if reason == "stop" and not ended:
        raise ServerError(
            f"{where} stopped at a token that ends nothing here (ids that do: {sorted(asked.end_ids)}): stop strings "
            "or stop tokens of the server's own; start it with --generation-config vllm"
        )
    if reason == "stop" or ended:
        return
    if reason != "length" or len(tokens) > asked.max_tokens:
        raise ServerError(f"{where} ended an answer by {reason!r} after {len(tokens)} of {asked.max_tokens} tokens")
    if len(tokens) < asked.max_tokens:
        raise ServerError(
            f"{where} cut an answer after {len(tokens)} of {asked.max_tokens} tokens: its context is shorter than it "
            "says; start it with --max-model-len of at least "
            f"{len(asked.prompt) + asked.max_tokens}, or as long as the policy's context"
        )


def read_values(reply: Any, tokens: Sequence[int], url: str) -> list[float]:
    """Return V after each token of a transcript that was sent to /pooling.

    Raises:
        ServerError: this is no answer to it.
    """
    where = f"{url}/pooling"
    data = reply.get("data") if isinstance(reply, dict) else None
    rows = data[0].get("data") if isinstance(data, list) and len(data) == 1 and isinstance(data[0], dict) else None
    if not isinstance(rows, list):
        raise ServerError(
            f"{where} gives no values: start the server with --runner pooling --pooler-config "
            '\'{"task": "token_classify", "use_activation": false}\''
        )
    numbers = [row[0] if isinstance(row, list) and len(row) == 1 else row for row in rows]
    if len(numbers) != len(tokens) or not all(_is_number(number) for number in numbers):
        raise ServerError(
            f"{where} gives {len(numbers)} values for {len(tokens)} tokens, or values that are no numbers: it has to "
            "give one V after each token; start the server with --runner pooling --pooler-config "
            '\'{"task": "token_classify", "use_activation": false}\', and its context as long as the policy\'s'
        )
    return [float(number) for number in numbers]


def choose_model(reply: Any, wanted: str | None, url: str, setting: str) -> tuple[str, int | None]:
    """Choose a name among those that a server has; returns it and the context there, tokens, where it says.

    Raises:
        ServerError: the name is not there, or none was given and there are several.
    """
    listed = reply.get("data") if isinstance(reply, dict) else None
    models = [entry for entry in listed or () if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
    names = [entry["id"] for entry in models]
    if not names:
        raise ServerError(f"{url}/v1/models names no model: this is no server of vLLM; look at {setting}.url")
    if wanted is None and len(names) > 1:
        raise ServerError(f"{url} has several models ({', '.join(names)}): say which by {setting}.model=NAME")
    if wanted is not None and wanted not in names:
        raise ServerError(f"{url} has no model {wanted!r} ({setting}.model), it has {', '.join(names)}")
    entry = models[0] if wanted is None else models[names.index(wanted)]
    context = entry.get("max_model_len")
    return entry["id"], context if isinstance(context, int) and context > 0 else None


def _only_choice(reply: Any, where: str) -> Mapping[str, Any]:
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise ServerError(f"{where} answers in another form than vLLM's ({str(reply)[:80]}); look at sampler.url")
    return choices[0]


def _is_ids(tokens: Sequence[object], vocabulary: int) -> bool:
    return all(isinstance(token, int) and not isinstance(token, bool) and 0 <= token < vocabulary for token in tokens)


def _is_number(number: object) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)


def _is_logprob(number: object) -> bool:
    return _is_number(number) and number <= _ABOVE  # type: ignore[operator]


def _difference(got: object, sent: Sequence[int]) -> str:
    if not isinstance(got, list):
        return "it says none"
    if len(got) != len(sent):
        return f"{len(got)} tokens in place of {len(sent)}"
    place = next(i for i, (a, b) in enumerate(zip(got, sent, strict=True)) if a != b)
    return f"token {place} is {got[place]} in place of {sent[place]}"
