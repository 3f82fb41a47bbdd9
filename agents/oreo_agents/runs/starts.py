"""What runs may share: a start, and the episodes that it collected.

Knows: which settings and files decide them. Does not know: how they are made.
"""

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

from oreo_agents.runs.settings import RunSettings


def start_key(settings: RunSettings) -> str:
    """Identify what decides the start and the offline episodes, the files they are made from included."""
    facts: list[Any] = [settings.env, settings.policy, settings.sft, settings.collect, settings.seed]
    facts += [settings.trainer.bf16, version("oreo-suite")]
    if settings.trainer.chooses:
        facts += [settings.evaluate.dev, settings.evaluate.sampling, settings.trainer]
    if settings.sampler.engine != "local":
        facts.append(settings.sampler.engine)
    for path in (settings.policy.path, settings.policy.chat_template, *settings.env.paths):
        if path is not None and Path(path).exists():
            files = [Path(path), *sorted(Path(path).rglob("*"))]
            facts += [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]
