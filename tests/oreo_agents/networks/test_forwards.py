"""How often a step reads its episodes: each network once a micro-batch, counted by hooks on the trunks."""

import copy
import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from tiny_models import draw_episodes, make_model
from transformers import LlamaForTokenClassification

from oreo_agents.networks.checkpoints import base_model
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import TokenValue
from oreo_agents.runs.cli import config_folder
from oreo_agents.runs.jobs import settings_from_config
from oreo_algos import EpisodeBuffer, Models, TrainerConfig, train
from oreo_algos.algos import Algorithm, Oreo
from oreo_algos.batch import collate

CHOICES = sorted(path.stem for path in (config_folder() / "algo").glob("*.yaml"))
STEPS = 3
# Beside the policy, of which a step reads the log-probabilities once: what else is read at each step.
EVERY_STEP = {
    "direct-advantage": {"value": 1},
    "awr": {"value": 1},
    "dqo": {"value": 1},
    "iql": {"value": 1},
    # A mismatched pair is text of its own, so the KL reference point costs one more of either.
    "kto": {"policy": 1, "reference": 1},
    "oreo": {"value": 1, "reference": 1},
    "oreo-constant": {"reference": 1},
    "oreo-response": {"value": 1, "reference": 1},
    "oreo-step": {"value": 1, "reference": 1},
}


@pytest.fixture
def buffer() -> EpisodeBuffer:
    """Both outcomes of four tasks, single turns of several prompts; two of a task share their first step."""
    episodes = [
        dataclasses.replace(episode, task_id=f"task-{number % 4}", rewards=[0.0, float(number < 6)], success=number < 6)
        for number, episode in enumerate(draw_episodes(24)[::2])
    ]
    other = episodes[0].tokens.copy()
    other[-1] = 3 + (other[-1] - 2) % 20
    episodes.append(dataclasses.replace(episodes[0], tokens=other, rewards=[0.0, 0.0], success=False))
    return EpisodeBuffer(dataclasses.replace(e, behavior_logprobs=np.where(e.step_id < 0, 0, -3.0)) for e in episodes)


def configured(choice: str) -> Algorithm:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", [f"algo={choice}", "policy=checkpoint", "policy.path=some/model"])
    algorithm = settings_from_config(config, {"algo": config.algo}).algorithms["algo"]
    warm_up = {"value_warmup_steps": 0} if hasattr(algorithm, "value_warmup_steps") else {}
    return dataclasses.replace(algorithm, epochs=STEPS, batch_size=1000, **warm_up)


def counted_forwards(algorithm: Algorithm, buffer: EpisodeBuffer, folder: Path, **config: int) -> tuple[Counter, int]:
    """Train; return how often each trunk was called, and the number of steps.

    The one call of each network that tells its run from others is left out.
    """
    policy = CausalPolicy(make_model("llama"))
    settings = copy.deepcopy(policy.plain.config)
    settings.num_labels, settings.classifier_dropout = 1, 0.0
    value = TokenValue(LlamaForTokenClassification(settings))
    models = Models(policy, CausalPolicy(make_model("llama", seed=1)).requires_grad_(False), value)
    calls: Counter[str] = Counter()
    trunks = {
        "policy": base_model(policy.model),
        "reference": base_model(models.reference.model),
        "value": base_model(value.model),
    }
    for name, trunk in trunks.items():
        trunk.register_forward_hook(lambda *_, name=name: calls.update([name]))
    steps = train(algorithm, models, buffer, TrainerConfig(**config), folder).steps
    calls.subtract({"policy"} | algorithm.needs)
    return +calls, steps


def test_hooks_on_the_networks_themselves_fire_once_a_score():
    """Wrappers such as FSDP gather parameters in hooks, which a direct call of ``forward`` or of a helper passes by."""
    policy, reference = (CausalPolicy(make_model("llama", seed=seed)) for seed in (0, 1))
    settings = copy.deepcopy(policy.plain.config)
    settings.num_labels, settings.classifier_dropout = 1, 0.0
    value = TokenValue(LlamaForTokenClassification(settings))
    calls: Counter[str] = Counter()
    for name, network in {"policy": policy, "reference": reference, "value": value}.items():
        network.register_forward_hook(lambda *_, name=name: calls.update([name]))
    batch = collate(draw_episodes(4))
    policy.score(batch, reference, kl="exact")
    value.token_values(batch)
    assert calls == {"policy": 1, "reference": 1, "value": 1}


@pytest.mark.parametrize("choice", CHOICES)
def test_a_step_reads_each_network_once(choice: str, buffer: EpisodeBuffer, tmp_path: Path):
    algorithm = configured(choice)
    calls, steps = counted_forwards(algorithm, buffer, tmp_path)
    assert steps == STEPS
    before = Counter({"reference": algorithm.reference_use == "logprobs"})  # all steps read what is taken then
    expected = Counter({"policy": 1}) + Counter(EVERY_STEP.get(choice, {}))
    assert calls == before + Counter({name: STEPS * count for name, count in expected.items()})


def test_micro_batches_read_each_network_once_each(buffer: EpisodeBuffer, tmp_path: Path):
    calls, _ = counted_forwards(configured("oreo"), buffer, tmp_path, micro_batch_tokens=1)
    assert calls == dict.fromkeys(("policy", "reference", "value"), STEPS * len(buffer))


@pytest.mark.parametrize("options", [{"kl": "k3"}, {"value_only": True}])
def test_oreo_reads_the_reference_before_the_steps_only_where_log_probabilities_are_enough(
    options: dict, buffer: EpisodeBuffer, tmp_path: Path
):
    algorithm = Oreo(policy_lr=1e-3, value_lr=1e-3, epochs=STEPS, value_warmup_steps=1, **options)
    calls, steps = counted_forwards(algorithm, buffer, tmp_path)
    assert calls == {"reference": 1, "policy": steps, "value": steps}


def test_a_moving_average_of_the_policy_is_a_network_of_its_own(buffer: EpisodeBuffer, tmp_path: Path):
    algorithm = dataclasses.replace(configured("oreo"), target_decay=0.5)
    calls, _ = counted_forwards(algorithm, buffer, tmp_path)
    # Its copy is made with the hook of the policy.
    assert calls == {"reference": STEPS, "policy": 2 * STEPS, "value": STEPS}
