"""Where the chat template of a tokenizer comes from, and arguments that are written into it.

Knows: files, Jinja's names. Does not know: what a template writes (``templates``), tokens.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2.meta
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers import PreTrainedTokenizerBase

_SETTING = re.compile(r"\{% set (\w+) = (?:\"(?:[^\"\\]|\\.)*\"|[^%\"])*? %\}")


def read_template(path: str | None) -> str | None:
    """Read a chat template.

    Raises:
        ValueError: there is no readable text at ``path``.
    """
    if path is None:
        return None
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"policy.chat_template={path}: no template can be read there ({error})") from error
    if not text.strip():
        raise ValueError(f"policy.chat_template={path}: this template is empty")
    return text


def set_template(
    tokenizer: PreTrainedTokenizerBase, name: str, text: str | None, arguments: Mapping[str, Any] | None
) -> None:
    """Give a tokenizer a template, with arguments written into it, so that it is saved with them.

    Args:
        tokenizer: is changed.
        name: what to call it in errors.
        text: Jinja; None: the tokenizer's own.
        arguments: of the template, such as ``enable_thinking``; JSON values.

    Raises:
        ValueError: no template, one that is no Jinja, or an argument that it does not read.
    """
    if text is not None:
        tokenizer.chat_template = text
    if text is None and not arguments:
        return
    if not tokenizer.chat_template:
        raise ValueError(
            f"{name}: this tokenizer has no chat template that could read {', '.join(arguments or ())}; leave "
            "policy.chat_template_kwargs out, or give a template (policy.chat_template=FILE)"
        )
    own = tokenizer.get_chat_template()
    settings, own = _leading_settings(own)
    try:
        parser = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols", _Generation])
        known = jinja2.meta.find_undeclared_variables(parser.parse(own))
    except TemplateError as error:
        raise ValueError(f"{name}: its chat template is no valid Jinja ({error})") from error
    known -= {"messages", "add_generation_prompt", *parser.globals, "raise_exception", "strftime_now"}
    for argument, value in (arguments or {}).items():
        if argument not in known:
            raise ValueError(
                f"policy.chat_template_kwargs: the chat template of {name} reads no {argument!r}; it reads "
                f"{', '.join(sorted(known)) or 'nothing'}"
            )
        settings[argument] = f"{{% set {argument} = {_literal(argument, value)} %}}"
    if arguments:
        tokenizer.chat_template = "".join(settings[key] for key in sorted(settings)) + "\n" + own


class _Generation(jinja2.ext.Extension):
    """Reads ``{% generation %}``, with which templates mark what the model says."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 declares it so)

    def parse(self, parser: Any) -> Any:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body).set_lineno(line)


def _leading_settings(template: str) -> tuple[dict[str, str], str]:
    """Cut the arguments that were written into a template from it."""
    first, newline, rest = template.partition("\n")
    found = {match[1]: match[0] for match in _SETTING.finditer(first)}
    if newline and first and "".join(found.values()) == first and list(found) == sorted(found):
        return found, rest
    return {}, template


def _literal(name: str, value: Any) -> str:
    """Return a JSON value as Jinja writes it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(k))}: {_literal(name, v)}" for k, v in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_literal(name, item) for item in value) + "]"
    if value is not None and not isinstance(value, str | bool | int | float):
        raise ValueError(f"policy.chat_template_kwargs.{name} must be a JSON value, got {value!r}")
    return "none" if value is None else json.dumps(value, ensure_ascii=False)
