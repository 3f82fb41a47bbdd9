"""Model cards of the networks of a run: facts gathered when a network is saved, results added when it is evaluated.

Knows: settings and folders of a run. Does not know: how a card is written (``model_card``), hubs.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator

from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.templates import replace_system
from oreo_agents.networks.model_card import CardFacts, base_of, model_card, with_results
from oreo_agents.runs.run_data import Part
from oreo_agents.runs.settings import RunSettings
from oreo_algos import EpisodeBuffer
from oreo_algos.algos import Algorithm, Sft
from oreo_algos.storage.atomic import write_text

_log = logging.getLogger(__name__)

_QUESTION = "What is 3 + 4?"


def card_of(
    part: Literal["policy", "value"],
    algorithm: Algorithm[Any],
    settings: RunSettings,
    parts: Sequence[Part],
    buffer: EpisodeBuffer,
    prompt_format: PromptFormat,
) -> str:
    """Return the card of a network that was just trained on these episodes."""
    env = settings.env
    asked = replace_system(_opening(env.id, env.options), prompt_format.system_prompt)
    return model_card(
        CardFacts(
            part=part,
            algorithm=algorithm,
            env_id=env.id,
            env_options=env.options,
            seed=settings.seed,
            base=base_of(settings.policy.path),
            data=_data(algorithm, settings, parts, buffer),
            messages=asked,
            has_template=prompt_format.template is not None,
            max_new_tokens=settings.evaluate.sampling.max_new_tokens,
        )
    )


def add_results(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the results of a run into the cards of the networks that it trained; what is there already stays.

    Args:
        folder: of the run; a network that lies elsewhere, shared by several runs, keeps its card.
        rows: of ``results.json``.
    """
    for name in dict.fromkeys(row["algo"] for row in rows):
        own = [row for row in rows if row["algo"] == name]
        _add(folder / name / "policy" / "README.md", own)
    for name in dict.fromkeys(row["value"] for row in rows if row.get("value")):
        _add(folder / name / "value" / "README.md", [row for row in rows if row.get("value") == name])


def _add(card: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    if not card.is_file():
        return
    text = card.read_text(encoding="utf-8")
    try:
        found = with_results(text, rows)
    except ValueError as error:
        _log.warning("%s gets no results: %s", card, error)
        return
    if found != text:
        write_text(card, found)


def _opening(env_id: str, options: Mapping[str, Any]) -> list[dict[str, str]]:
    """Ask a question of our own in the environment's words: no question of its data is published by a card."""
    entry_point: Any = gym.spec(env_id).entry_point
    env_class = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
    if not hasattr(env_class, "template"):
        return [{"role": "user", "content": _QUESTION}]
    return [dict(message) for message in env_class.template(options.get("prompt")).messages(_QUESTION)]


def _data(algorithm: Algorithm[Any], settings: RunSettings, parts: Sequence[Part], buffer: EpisodeBuffer) -> str:
    stats = buffer.stats()
    sources = [str(part.buffer.provenance.get("source") or "episodes") for part in parts]
    kind = "demonstrations" if isinstance(algorithm, Sft) else " and ".join(dict.fromkeys(sources))
    split = settings.sft.split if isinstance(algorithm, Sft) else settings.collect.split
    given = settings.data_folders and not isinstance(algorithm, Sft)
    where = f"given as {', '.join(Path(one).name for one in settings.data_folders)}" if given else f"split {split}"
    held_out = [part.held_out for part in parts if part.held_out is not None]
    told = "".join(
        f"; {found.episodes} of them answer tasks that are held out (split {', '.join(found.splits)}), such as "
        f"{found.example}: results on these measure nothing"
        for found in held_out
    )
    return (
        f"{stats['episodes']} episodes of {stats['tasks']} tasks ({kind}, {where}), "
        f"{100 * stats['success_rate']:.1f}% of them right{told}"
    )
