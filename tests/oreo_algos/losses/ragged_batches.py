"""Numbers of ragged episodes."""

import torch


def ragged(seed=0, batch=5, steps=6):
    """Values, log-ratios and returns in float64, and a mask with a row of each length."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([1 + row % steps for row in range(batch)])
    mask = torch.arange(steps) < lengths[:, None]
    values, log_ratio, returns = (torch.randn(batch, steps, generator=generator, dtype=torch.float64) for _ in range(3))
    return values, log_ratio.masked_fill(~mask, 0), returns, mask
