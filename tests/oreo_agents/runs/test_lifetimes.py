"""No network outlives its stage, and of a training that is done nothing stays but its results."""

import dataclasses
import gc
import json
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from oreo_agents.episodes.collect import CollectSettings, SftSettings
from oreo_agents.episodes.generate import Sampling
from oreo_agents.episodes.tasks import EnvSettings
from oreo_agents.evaluation.evaluate import EvaluateSettings
from oreo_agents.networks.adapters import Lora
from oreo_agents.networks.network import Network
from oreo_agents.networks.policy import PolicySettings
from oreo_agents.networks.tiny import TinyConfig
from oreo_agents.networks.value import ValueSettings
from oreo_agents.runs.pipeline import Run
from oreo_agents.runs.settings import RunSettings
from oreo_agents.search import BestOfN, Greedy, StepBeam
from oreo_algos import EpisodeBuffer
from oreo_algos.algos import Dpo, Kto, Oreo, Sft
from oreo_algos.storage.checkpoint import list_checkpoints, save_checkpoint

TINY = TinyConfig(hidden_size=16, layers=1, heads=2, intermediate_size=16)
SHORT = Sampling(max_new_tokens=16)
FAST = {"batch_size": 4, "policy_lr": 1e-3}
ALGORITHMS = {
    "dpo": Dpo(**FAST),
    "kto": Kto(**FAST),
    "oreo": Oreo(**FAST, value_lr=1e-2, target_decay=0.5),
    "k3": Oreo(**FAST, value_lr=1e-2, kl="k3", optimizer="muon"),
}
SEARCHES = {"greedy": Greedy(), "best_of_n": BestOfN(samples=2), "step_beam": StepBeam(keep=1, expand=2)}


@pytest.fixture
def without_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


class Watch:
    """Weak references to the parts of every network that is made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Watch from now on."""
        self.parts: list[weakref.ref] = []
        self.stages: list[str] = []
        original = Network.__init__

        def noted(network: Network, *arguments: object, **options: object) -> None:
            original(network, *arguments, **options)  # type: ignore[arg-type]
            self.parts += map(weakref.ref, (*network.modules(), *network.parameters()))

        monkeypatch.setattr(Network, "__init__", noted)

    def stage(self, name: str) -> None:
        """Nothing is left of the networks of a stage that is over."""
        assert self.parts, name
        assert {type(part()).__name__ for part in self.parts if part() is not None} == set(), name
        self.parts = []
        self.stages.append(name)


def settings(**lora: Lora) -> RunSettings:
    options = {"verbs_per_problem": [1, 1], "num_verbs": 2, "amount_range": [1, 1]}
    return RunSettings(
        env=EnvSettings(id="oreo/Arithmetic-v0", options=options),
        policy=PolicySettings(tiny=TINY, gradient_checkpointing=True, **lora),
        value=ValueSettings(gradient_checkpointing=True, **lora),
        sft=SftSettings(demonstrations=64, algorithm=Sft(batch_size=16, epochs=1, policy_lr=3e-3)),
        collect=CollectSettings(tasks=6, samples=4, sampling=SHORT),
        algorithms=ALGORITHMS,
        searches=SEARCHES,
        evaluate=EvaluateSettings(tasks=2, searches=list(SEARCHES), sampling=SHORT),
        workers=1,
    )


def with_both_outcomes(run: Run, **lora: Lora) -> RunSettings:
    """Settings whose episodes are those of a run, every other one of them a success."""
    episodes = [dataclasses.replace(e, success=bool(i % 2), info={}) for i, e in enumerate(run.episodes())]
    EpisodeBuffer(episodes, tokenizer_fingerprint=run.episodes().tokenizer_fingerprint).save(run.folder / "mixed")
    return dataclasses.replace(settings(**lora), data=str(run.folder / "mixed"))


def test_no_network_outlives_its_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_collection: None):
    """Adapters, gradient checkpointing, a moving average, V in the search: whatever might hold on to a network."""
    lora = {"lora": Lora(rank=2)}
    watch = Watch(monkeypatch)
    run = Run(settings(**lora), tmp_path)
    start = run.sft()
    watch.stage("sft")
    run.episodes()
    watch.stage("collect")
    run = Run(with_both_outcomes(run, **lora), tmp_path)
    for name in ALGORITHMS:
        run._train_round(name, 1)
        watch.stage(f"train {name}")
    for name in ("sft", *ALGORITHMS):
        value = tmp_path / name / "value"
        run.evaluate(
            name, start if name == "sft" else str(tmp_path / name / "policy"), str(value) if value.exists() else None
        )
        watch.stage(f"evaluate {name}")
    assert len(watch.stages) == 7 + len(ALGORITHMS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(settings(), tmp_path_factory.mktemp("trained"))
    run = Run(with_both_outcomes(run), run.folder)
    run._train_round("dpo", 1)
    return run


def test_a_training_that_is_done_leaves_its_networks_and_no_optimiser(trained: Run):
    for name in ("sft", "dpo"):
        folder = trained.folder / name
        assert (folder / "policy" / "model.safetensors").exists() and (folder / "summary.json").exists()
        assert not list_checkpoints(folder)


def test_a_checkpoint_stays_until_the_summary_says_that_the_training_is_done(
    trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = Path(shutil.copytree(trained.folder, tmp_path / "copy"))
    expected = json.loads((folder / "dpo" / "summary.json").read_text())
    weights = (folder / "dpo" / "policy" / "model.safetensors").read_bytes()
    shutil.rmtree(folder / "dpo")
    run = Run(trained.settings, folder)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("oreo_agents.runs.trained.write_text", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        run._train_round("dpo", 1)
    assert [step for step, _ in list_checkpoints(folder / "dpo")] == [expected["steps"]]
    with monkeypatch.context() as patch:
        # From the checkpoint: no step is taken again.
        patch.setattr("oreo_algos.training.trainer._Run._train_step", lambda *_: pytest.fail("a step"))
        run._train_round("dpo", 1)
    assert not list_checkpoints(folder / "dpo")
    assert (folder / "dpo" / "policy" / "model.safetensors").read_bytes() == weights


def test_what_a_kill_left_after_the_summary_goes_when_the_run_goes_on(trained: Run, tmp_path: Path):
    folder = Path(shutil.copytree(trained.folder, tmp_path / "copy"))
    save_checkpoint(folder / "dpo", 3, {}, keep=1)
    Run(trained.settings, folder)._train_round("dpo", 1)
    assert not list_checkpoints(folder / "dpo")
