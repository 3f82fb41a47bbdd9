"""A format without a chat template, and the tokens of a text."""

from tiny_models import make_tokenizer

from oreo_agents.episodes.prompts import PromptFormat

PLAIN = PromptFormat(make_tokenizer())


def ids(prompt_format: PromptFormat, text: str) -> list[int]:
    return prompt_format.tokenizer(text, add_special_tokens=False)["input_ids"]
