"""What a tokenizer and its chat template can do, tried on a few texts.

Knows: what was found, in words. Does not know: how a conversation is written (``prompts``), networks.
"""

from collections.abc import Callable
from functools import partial

from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.networks.capability import Capability

# What is to come back from tokens as it was.
_TRIED = ("one. Two\n\n  three", "Größe \u2211 7 + 5 = 12", "\tx  y \n", "<think>\nso\n</think>\n\n\\boxed{4}")


def format_capabilities(prompt_format: PromptFormat) -> list[Capability]:
    """Say what this format can do, each tried now."""
    found = []
    if prompt_format.template is None:
        found.append(Capability("template", "ok", "none: messages are lines of text"))
    else:
        found.append(_try("template", prompt_format.template.tell))
    found.append(_try("bridge", partial(_tell_bridge, prompt_format)))
    found.append(_try("turns", partial(_tell_turns, prompt_format)))
    ends = " or ".join(str(prompt_format.tokenizer.convert_ids_to_tokens(end)) for end in sorted(prompt_format.end_ids))
    found.append(Capability("end tokens", "ok", f"{prompt_format._end_text} is written; a turn ends at {ends}"))
    changed = next((text for text in _TRIED if prompt_format._text_inside(prompt_format._apart(text)) != text), None)
    if changed is None:
        found.append(Capability("round trip", "ok", "text comes back as it was"))
    else:
        back = prompt_format._text_inside(prompt_format._apart(changed))
        found.append(Capability("round trip", "slow", f"{changed!r} comes back as {back!r}"))
    return found


def _try(name: str, tell: Callable[[], str]) -> Capability:
    try:
        return Capability(name, "ok", tell())
    except ValueError as error:
        return Capability(name, "refused", str(error))


def _tell_bridge(prompt_format: PromptFormat) -> str:
    if prompt_format.template is None or not prompt_format._example.bridge:
        return "an answer follows the prompt"
    thought = "; the prompt begins a thought" if prompt_format.template.opened() else ""
    return f"before an answer that was not sampled stands {prompt_format._example.bridge!r}{thought}"


def _tell_turns(prompt_format: PromptFormat) -> str:
    prompt_format.require_turns()
    try:
        prompt_format.require_turns([{"role": "system", "content": ""}])
    except ValueError:
        return "only appends, but not after a message of the system (policy.system_prompt leaves it out)"
    return "only appends"
