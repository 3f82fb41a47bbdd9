"""What the sampler draws is what a model says of whole transcripts, whatever cache its family has."""

import pytest
import torch
from families import build

from oreo_agents.episodes.generate import Sampling, generate
from oreo_agents.episodes.sources import row_source
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.readers import WholeReader, reads_on

# Two prompts are equal, the rows are ragged, and they end at different tokens.
PROMPTS = [[5, 6, 7], [5, 6, 7], [9, 10, 11, 12, 13], [40]]
WHOLE = ["mamba", "falcon_mamba", "rwkv", "lfm2", "qwen3_next"]
CACHED = ["llama", "qwen3_moe", "mixtral", "phi3", "gemma3_text", "gpt_oss"]


@torch.no_grad()
def whole_logprobs(model, prompt, tokens):
    """Log-probabilities of tokens, each read with all before it, alone and without a cache."""
    row, found = list(prompt), []
    for token in tokens:
        logp = model(torch.tensor([row]), use_cache=False).logits[0, -1].float().log_softmax(-1)
        found.append(logp[token].item())
        row.append(token)
    return found


@pytest.mark.parametrize("family", [*WHOLE, *CACHED])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_samples_are_drawn_from_what_the_model_says(family: str, temperature: float):
    model = build(family)
    policy = CausalPolicy(model)
    assert (policy.reads_slowly is None) is (family in CACHED)
    sources = [row_source(0, index, 0) for index in range(len(PROMPTS))]
    samples = generate(policy, PROMPTS, [2], Sampling(temperature=temperature, max_new_tokens=8), sources=sources)
    for prompt, sample in zip(PROMPTS, samples, strict=True):
        assert sample.logprobs == pytest.approx(whole_logprobs(model, prompt, sample.tokens), abs=2e-5)
        if temperature == 0:
            row = torch.tensor([prompt + sample.tokens[:-1]])
            best = model(row, use_cache=False).logits[0, len(prompt) - 1 :].argmax(-1)
            assert sample.tokens == best.tolist()


def test_a_policy_that_reads_whole_transcripts_keeps_nothing_and_says_so_once(caplog: pytest.LogCaptureFixture):
    policy = CausalPolicy(build("lfm2"))
    for _ in range(2):
        generate(policy, PROMPTS, [2], Sampling(temperature=0, max_new_tokens=2))
    told = [record.message for record in caplog.records if "sampled slowly" in record.message]
    assert len(told) == 1 and told[0].startswith("Lfm2ForCausalLM is sampled slowly, whole transcripts at each token: ")
    assert not policy.resumes
    with pytest.raises(RuntimeError, match="nothing is kept"):
        WholeReader(policy.plain).newest([0], 1)


def test_a_cache_that_gives_other_numbers_is_found_out(monkeypatch: pytest.MonkeyPatch):
    """A model that takes the cache and forgets it: each token is said of the newest token alone."""
    model = build("llama")
    forward = type(model).forward

    def forgetful(self, input_ids=None, **kwargs):
        return forward(self, input_ids, logits_to_keep=kwargs.get("logits_to_keep", 0))

    monkeypatch.setattr(type(model), "forward", forgetful)
    assert "off by" in str(reads_on(model))


def test_rows_of_one_length_share_a_pass_and_none_is_padded(monkeypatch: pytest.MonkeyPatch):
    model, shapes = build("llama"), []
    model.register_forward_pre_hook(lambda module, args: shapes.append(tuple(args[0].shape)))
    reader = WholeReader(model)
    tokens = torch.tensor([[1, 2, 3], [0, 4, 5], [0, 6, 7]])
    reader.read(tokens, torch.tensor([[1, 1, 1], [0, 1, 1], [0, 1, 1]]))
    assert shapes == [(2, 2), (1, 3)]
