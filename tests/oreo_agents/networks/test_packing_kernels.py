"""Attention within documents by the kernel of torch against attention by groups."""

import inspect
from collections.abc import Callable, Iterator

import pytest
import torch
from packing_models import weights_of
from torch import Tensor
from torch.nn.attention import varlen
from torch.nn.functional import scaled_dot_product_attention

from oreo_agents.networks import packing
from oreo_algos.batch import Batch


def kernel_of_2_10(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False, return_aux=None):
    assert is_causal
    return reference_kernel(query, key, value, cu_seq_q, max_q, 1 / query.shape[-1] ** 0.5)


def kernel_of_2_12(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1), enable_gqa=False
):
    assert window_size == (-1, 0) and enable_gqa == (query.shape[1] != key.shape[1])
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    return reference_kernel(query, key, value, cu_seq_q, max_q, scale)


def reference_kernel(query: Tensor, key: Tensor, value: Tensor, ends: Tensor, longest: int, scale: float) -> Tensor:
    assert ends.dtype == torch.int32 and ends.diff().max() == longest
    assert query.shape == key.shape == value.shape
    assert query.dtype == key.dtype == value.dtype
    spans: Iterator[tuple[int, int]] = zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    outputs = []
    for start, end in spans:
        q, k, v = (x[start:end].transpose(0, 1) for x in (query, key, value))
        outputs.append(scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale).transpose(0, 1))
    return torch.cat(outputs)


@pytest.mark.parametrize("kernel", [kernel_of_2_10, kernel_of_2_12])
@pytest.mark.parametrize("key_heads", [4, 2])
@pytest.mark.parametrize("scaling", [None, 0.7])
def test_the_kernel_of_each_torch_gets_what_the_groups_get(
    kernel: Callable[..., Tensor], key_heads: int, scaling: float | None, batch: Batch, monkeypatch: pytest.MonkeyPatch
):
    row = packing.pack(batch)
    length = row.position_ids.shape[1]
    query = weights_of((1, 4, length, 8))
    key, value = weights_of((1, key_heads, length, 8), 1), weights_of((1, key_heads, length, 8), 2)
    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    by_kernel = packing._attend_by_kernel(query, key, value, row, scaling)
    by_group = packing._attend_by_group(query, key, value, row, scaling)
    assert by_kernel.shape == (1, length, 4, 8)
    torch.testing.assert_close(by_kernel, by_group, atol=1e-5, rtol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):  # values come from a linear layer, the others were rotated in float32
        assert packing._attend_by_kernel(query, key, value.bfloat16(), row, scaling).dtype == torch.bfloat16


def test_the_installed_kernel_knows_the_arguments_that_it_is_given():
    known = inspect.signature(varlen.varlen_attn).parameters
    assert list(known)[:7] == ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    assert "window_size" in known or "is_causal" in known


@pytest.mark.gpu
@pytest.mark.parametrize("key_heads", [4, 2])
def test_the_kernel_on_a_gpu_gives_what_the_groups_give(key_heads: int, batch: Batch):
    row = packing.pack(batch.to("cuda"))
    length = row.position_ids.shape[1]
    shapes = [(1, 4, length, 64), (1, key_heads, length, 64), (1, key_heads, length, 64)]
    heads = [weights_of(shape, seed).to("cuda", torch.bfloat16).requires_grad_() for seed, shape in enumerate(shapes)]
    results = []
    for attend in (packing._attend_by_kernel, packing._attend_by_group):
        output = attend(*heads, row, None)
        results.append((output, *torch.autograd.grad(output.float().square().sum(), heads)))
    for by_kernel, by_group in zip(*results, strict=True):
        torch.testing.assert_close(by_kernel, by_group, atol=2e-2, rtol=2e-2)
