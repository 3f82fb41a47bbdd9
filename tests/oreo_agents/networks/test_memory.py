"""What is predicted of the memory of an update against what autograd saves of a real one, of Qwen2.5-1.5B's widths."""

import dataclasses
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pytest
import torch
from families import small_config
from hydra import compose, initialize_config_dir
from tiny_models import make_model
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2ForTokenClassification
from transformers.initialization import no_init_weights

from oreo_agents.networks import memory
from oreo_agents.networks.adapters import Lora
from oreo_agents.networks.memory import Trained, predict
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import TokenValue
from oreo_agents.runs.cli import config_folder
from oreo_algos import Episode, Models
from oreo_algos.algos import Algorithm, ConstantBaseline, Dpo, Dqo, ImplicitPrm, Kto, Oreo, RejectionSampling, Sft
from oreo_algos.algos.kto import ReferencePoint
from oreo_algos.batch import Batch, collate

WIDTHS: dict[str, Any] = {
    "vocab_size": 1000,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 2,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "num_labels": 1,
    "classifier_dropout": 0.0,
}
NARROW = {"hidden_size": 192, "intermediate_size": 1120}
"""Eight times narrower, for the tests of every day."""

FULL, AGAIN = Trained(), Trained(gradient_checkpointing=True)
ADAPTERS = Trained(lora=Lora(rank=8), gradient_checkpointing=True)
COARSE = Trained(lora=Lora(rank=8), dtype=torch.bfloat16)
LENGTH = 32
"""Of a document: a CPU without a fitting kernel holds what grows with the square of their length."""


ALGORITHMS = {
    "sft": Sft(),
    "rejection": RejectionSampling(),
    "dpo": Dpo(),
    "kto": Kto(),
    "constant": ConstantBaseline(),
    "dqo": Dqo(),
    "implicit-prm": ImplicitPrm(),
    "oreo": Oreo(),
    "oreo-k3": Oreo(kl="k3", granularity="step"),
    "oreo-average": Oreo(target_decay=0.5),
}


def make_config(widths: str = "1.5B", layers: int = 2) -> Qwen2Config:
    return Qwen2Config(**WIDTHS | (NARROW if widths == "narrow" else {}) | {"num_hidden_layers": layers})


@lru_cache(maxsize=1)
def make_networks(how: Trained, widths: str, layers: int = 2) -> tuple[CausalPolicy, TokenValue]:
    options = {"lora": how.lora, "gradient_checkpointing": how.gradient_checkpointing}
    config = make_config(widths, layers)
    with no_init_weights():  # what they say is not asked for
        models = [kind(config).to(how.dtype) for kind in (Qwen2ForCausalLM, Qwen2ForTokenClassification)]
    for model in models:
        for weight in model.parameters():
            nn.init.constant_(weight, 0.01)
    return CausalPolicy(models[0], **options), TokenValue(models[1], **options)


@pytest.fixture(scope="module", autouse=True)
def networks_are_let_go_of() -> Iterator[None]:
    yield
    make_networks.cache_clear()


def make_batch(documents: int, *, known: bool) -> Batch:
    """Every token but the first is an action's, as is predicted; perhaps with what a reference says of them."""
    generator = torch.Generator().manual_seed(0)
    episodes = [
        Episode(
            tokens=torch.randint(1, 1000, (LENGTH,), generator=generator).numpy(),
            step_id=torch.arange(LENGTH).clamp(max=1).numpy() - 1,
            rewards=[float(number % 2)],
            terminated=True,
            truncated=False,
            task_id="t",
            env_id="e",
        )
        for number in range(documents)
    ]
    batch = collate(episodes)
    return dataclasses.replace(batch, ref_logprobs=-torch.rand(batch.tokens.shape)) if known else batch


def saved(algorithm: Algorithm, how: Trained, widths: str, documents: int, *, layers: int = 2) -> int:
    """Bytes that autograd saves for the backward of an update, storages once and parameters apart."""
    storages: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            storages[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor.detach()  # what a node has computed itself would hold that node for ever

    policy, value = make_networks(how, widths, layers)
    whole = algorithm.reference_use == "distribution"
    # Its own rows serve as the reference: what it holds is no part of this count.
    models = Models(policy, policy if whole else None, value, target=policy, numbers={"baseline": 0.5})
    context = ReferencePoint(torch.tensor(0.0), 1.0) if isinstance(algorithm, Kto) else None
    saving = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with saving, torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
        losses = algorithm.losses(make_batch(documents, known=not whole), models, context)
    assert all(term.requires_grad for term in losses.terms.values())
    return sum(storage.nbytes() for storage in storages.values())


def predicted(algorithm: Algorithm, how: Trained, widths: str, documents: int) -> memory.Memory:
    return predict(
        make_config(widths),
        tokens=documents * LENGTH,
        policy=how,
        value=how if "value" in algorithm.needs else None,
        reference="copy" if algorithm.reference_use == "distribution" else "none",
        moving_average=getattr(algorithm, "target_decay", None) is not None,
        optimizer=algorithm.optimizer,
    )


WAYS = {"full": FULL, "again": AGAIN, "adapters": ADAPTERS, "coarse": COARSE}
SETTINGS = [
    *(pytest.param("oreo", way, "narrow", id=f"oreo-{way}-narrow") for way in WAYS),
    pytest.param("dpo", "again", "narrow", id="dpo-again-narrow"),
    *(
        pytest.param(name, way, "1.5B", id=f"{name}-{way}-1.5B", marks=pytest.mark.slow)
        for way in WAYS
        for name in (ALGORITHMS if way == "full" else ["oreo"])
    ),
]


@pytest.mark.parametrize(("name", "way", "widths"), SETTINGS)
def test_what_is_predicted_is_what_autograd_saves(name: str, way: str, widths: str):
    """In all, and of each further token: casts of weights, which do not grow, are most of it where tokens are few."""
    few, more = (saved(ALGORITHMS[name], WAYS[way], widths, documents) for documents in (2, 4))
    expected = [predicted(ALGORITHMS[name], WAYS[way], widths, documents).saved for documents in (2, 4)]
    assert expected[1] == pytest.approx(more, rel=0.15)
    assert expected[1] - expected[0] == pytest.approx(more - few, rel=0.15)


@pytest.mark.slow
def test_what_a_layer_needs_that_is_computed_again_is_what_it_saves():
    sft, documents = Sft(), 4
    layer = saved(sft, FULL, "1.5B", documents) - saved(sft, FULL, "1.5B", documents, layers=1)
    found = memory._count(make_config(), AGAIN, "adamw").layer
    assert found.of(documents * LENGTH) == pytest.approx(layer, rel=0.05)


QWEN_1_5B = Qwen2Config(**WIDTHS | {"num_hidden_layers": 28, "vocab_size": 151_936})


def test_the_peak_at_1_5_billion_parameters_is_below_80_gb_at_the_defaults_of_a_checkpoint():
    """And what is saved there is below 0.4 of what was saved before; the rest is arithmetic."""
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", ["policy=checkpoint", "policy.path=some/model"])
    how = Trained(gradient_checkpointing=config.policy.gradient_checkpointing)
    assert config.value.gradient_checkpointing == config.policy.gradient_checkpointing == "auto"
    tokens = config.trainer.micro_batch_tokens
    found = predict(QWEN_1_5B, tokens=tokens, policy=how, value=how, reference="copy")
    before = predict(QWEN_1_5B, tokens=tokens, policy=FULL, value=FULL, reference="copy")
    parameters = 1_543_714_304
    assert found.gradients == 8 * parameters and found.optimizer == 2 * found.gradients
    assert found.weights == pytest.approx(found.gradients, rel=1e-6)  # and a buffer
    assert 4 * parameters <= found.copies < 4.1 * parameters
    assert found.total < 70e9 < 160e9 < before.total
    assert found.saved + found.work < 0.1 * before.saved
    assert f"an update of {tokens:,} tokens holds {found.total / 1e9:.1f} GB at its peak: weights 12.3, " in str(found)


def test_muon_adapters_and_a_moving_average_count():
    plain = predict(make_config("narrow"), tokens=1, policy=FULL)
    muon = predict(make_config("narrow"), tokens=1, policy=FULL, optimizer="muon")
    embedding_and_more = plain.weights / 4 - (plain.optimizer - muon.optimizer) / 4
    assert 1000 * 192 < embedding_and_more < 1.05 * 1000 * 192
    averaged = predict(make_config("narrow"), tokens=1, policy=FULL, moving_average=True)
    assert averaged.copies - plain.copies == plain.gradients
    adapters = predict(make_config("narrow"), tokens=1, policy=ADAPTERS, reference="copy")
    apart = predict(make_config("narrow"), tokens=1, policy=ADAPTERS, reference="apart")
    assert adapters.gradients < 0.1 * plain.gradients and adapters.optimizer == 2 * adapters.gradients
    assert adapters.copies < 0.1 * plain.weights < plain.weights < apart.copies


@pytest.mark.parametrize("family", ["gemma2", "cohere"])
def test_logits_that_are_scaled_or_capped_are_saved_whole(family: str):
    found, plain = (predict(make_model(name).config, tokens=1000, policy=FULL) for name in (family, "qwen2"))
    assert found.saved - plain.saved > 1000 * make_model(family).config.vocab_size


@pytest.mark.parametrize("family", ["mamba", "qwen3_next", "mixtral", "gpt_oss", "gemma3_text"])
def test_other_families_are_counted(family: str):
    config = small_config(family)
    less, more = (predict(config, tokens=100, policy=how).saved for how in (AGAIN, FULL))
    assert 0 < less < 0.7 * more


def test_what_cannot_be_counted_is_a_sentence():
    nobody = Trained(lora=Lora(rank=2, target_modules=["nobody"]))
    with pytest.raises(ValueError, match=r"mamba: not counted \(.*No modules were targeted"):
        predict(small_config("mamba"), tokens=100, policy=nobody)
