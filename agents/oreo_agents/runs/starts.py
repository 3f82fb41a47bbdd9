"""What runs may share: a start, and the episodes that it collected.

Knows: which settings and files decide them, and how a small model begins. Does not know: how it is trained.
"""

import dataclasses
import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

from oreo_agents.episodes.collect import demonstrations
from oreo_agents.episodes.tasks import Purpose
from oreo_agents.networks.tiny import byte_tokenizer, create_checkpoint, word_tokenizer
from oreo_agents.runs.settings import RunSettings
from oreo_algos.storage.atomic import replace_folder
from oreo_envs.limits import files_below


def start_key(settings: RunSettings) -> str:
    """Identify what decides the start and the offline episodes, the files they are made from included."""
    facts: list[Any] = [settings.env, settings.policy, settings.sft, settings.collect, settings.seed]
    facts += [settings.trainer.bf16, version("oreo-suite")]
    if settings.trainer.chooses:
        facts += [settings.evaluate.dev, settings.evaluate.sampling]
        # How processes share the work decides nothing.
        facts.append(dataclasses.replace(settings.trainer, sharding="replicated", cpu_offload=False))
    if settings.sampler.engine != "local":
        facts.append(settings.sampler.engine)
    # What a checkpoint consists of lies at its top, or in a folder there; what is no checkpoint may be anything.
    places = [
        (settings.policy.path, 2),
        (settings.policy.chat_template, 1),
        *((path, None) for path in settings.env.paths),
    ]
    for path, depth in places:
        if path is not None and Path(path).exists():
            files = [Path(path)] if Path(path).is_file() else files_below(Path(path), depth=depth)
            facts += [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]


def make_start(settings: RunSettings, folder: Path) -> None:
    """Make a small model from random weights, unless it is there."""
    if folder.exists():
        return
    env: Any = settings.env_maker(settings.sft.split)().unwrapped
    if hasattr(env, "vocabulary"):
        tokenizer = word_tokenizer(env.vocabulary())
    else:
        sft = settings.sft
        indices = settings.train_indices(sft.demonstrations, Purpose.DEMONSTRATIONS, split=sft.split)
        shown = demonstrations(env, indices, [settings.seed])
        texts = [message["content"] for one in shown for message in one.messages]
        tokenizer = byte_tokenizer(texts, settings.policy.tiny.tokenizer_size)
    with replace_folder(folder) as temporary:
        create_checkpoint(settings.policy.tiny, tokenizer, temporary, settings.seed)
