"""Documents are packed, padded or read one at a time, whichever is right; what is tried leaves no trace."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from families import build
from packing_models import alone
from tiny_models import make_model

from oreo_agents.networks import documents
from oreo_agents.networks.checkpoints import base_model
from oreo_agents.networks.miniature import tried
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import TokenValue
from oreo_algos.batch import Batch


@pytest.fixture
def neighbours_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs of a Llama depend on how many documents are read with one."""
    trunk = type(make_model("llama").model)
    forward = trunk.forward

    def crowded(self: Any, input_ids: torch.Tensor, **how: Any) -> Any:
        found = forward(self, input_ids, **how)
        found.last_hidden_state = found.last_hidden_state * (len(input_ids) + ("packing" in how))
        return found

    monkeypatch.setattr(trunk, "forward", crowded)
    documents._warn_of_lone_documents.cache_clear()


# The causal check reads rows by themselves, so that this model passes it.
@pytest.mark.usefixtures("neighbours_matter")
def test_where_a_batch_changes_what_is_said_documents_are_read_one_at_a_time(
    batch: Batch, checkpoint: Callable[[str], str], caplog: pytest.LogCaptureFixture
):
    policy = CausalPolicy(make_model("llama"))
    assert policy.documents.longest_packed == 0 and "differ by" in str(policy.documents.alone)
    logp = policy.plain.lm_head(alone(policy.plain, batch)).log_softmax(-1)
    before = torch.cat([logp.new_zeros(1, logp.shape[1]), logp[:-1]])
    expected = before.gather(1, batch.tokens[batch.attention][:, None])[:, 0]
    where = batch.action_mask[batch.attention]
    torch.testing.assert_close(policy.score(batch).logprobs[batch.action_mask], expected[where], atol=1e-4, rtol=1e-4)
    policy.score(batch).logprobs.sum().backward()
    value = TokenValue.from_policy(checkpoint("llama"), bias=0.5)
    torch.nn.init.normal_(value.plain.score.weight)
    said = value.plain.score(alone(value.plain, batch))[:, 0]
    torch.testing.assert_close(value.token_values(batch)[:, 1:][batch.attention], said, atol=1e-4, rtol=1e-4)
    assert "read slowly, one document at a time" in caplog.text


def test_a_model_that_reads_nothing_is_refused(monkeypatch: pytest.MonkeyPatch):
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("no kernel for this device")

    model = make_model("cohere")
    monkeypatch.setattr(type(model), "forward", fail)
    with pytest.raises(ValueError, match=r"cannot read a document .*no kernel for this device"):
        CausalPolicy(model)


def parts_of(model: torch.nn.Module) -> list[Any]:
    config = model.config
    return [
        [(name, id(module)) for name, module in model.named_modules()],
        [(name, id(parameter)) for name, parameter in model.named_parameters()],
        copy.deepcopy(config.to_dict()),
    ]


@pytest.mark.parametrize("family", ["gemma3_text", "llama"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_trial_sees_the_first_layers_of_each_kind_and_leaves_the_model_as_it_was(family: str, fails: bool):
    kinds = {"layer_types": ["sliding_attention"] * 3 + ["full_attention"] + ["sliding_attention"] * 6}
    model = build(
        family, num_hidden_layers=10, vocab_size=600, sliding_window=32, **(kinds if family != "llama" else {})
    )
    before = parts_of(model)
    seen: list[tuple[int, int, int]] = []

    def trial() -> str | None:
        head = model.get_output_embeddings()
        seen.append((len(base_model(model).layers), len(head.weight), getattr(model.config, "sliding_window", 0) or 0))
        if fails:
            raise RuntimeError("not so")
        return None

    assert tried(model, trial) == ("RuntimeError: not so" if fails else None)
    window = 4 if family == "gemma3_text" else seen[0][2]
    layers = 4 if family == "gemma3_text" else 2
    assert seen == [(layers, 256, window), *([(10, 600, window)] if fails else [])]
    assert parts_of(model) == before


def test_what_fails_on_few_layers_may_succeed_on_all():
    model = build("llama", num_hidden_layers=6)
    reason = tried(model, lambda: "too few layers" if len(model.model.layers) < 6 else None)
    assert reason is None
