"""The small layers that the network is made of, and where mixed precision stops."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-6


def full_precision(like: Tensor) -> torch.autocast:
    """A context on the device of `like` without autocast: for the input projections and both heads."""
    # Autocast has no meta device, on which FLOPs are counted.
    return torch.autocast("cpu" if like.is_meta else like.device.type, enabled=False)


class RMSNorm(nn.RMSNorm):
    """Root-mean-square norm over the last dimension, computed in float32 whatever the input's type."""

    def __init__(self, size: int) -> None:
        super().__init__(size, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised `x`, of the same shape and type."""
        return F.rms_norm(x.float(), self.normalized_shape, self.weight.float(), EPS).type_as(x)


class SwiGLU(nn.Module):
    """Gated feed-forward layer, `out(silu(gate) * value)`, of width `int(mlp_ratio * H * 2/3)`."""

    def __init__(self, hidden_size: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        width = int(hidden_size * mlp_ratio * 2 / 3)
        self.gate_value = nn.Linear(hidden_size, 2 * width)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width, hidden_size)

    def forward(self, h: Tensor) -> Tensor:
        """Hidden states (B, N, H) -> (B, N, H)."""
        gate, value = self.gate_value(h).chunk(2, dim=-1)
        return self.out(self.dropout(F.silu(gate) * value))  # type: ignore[no-any-return]


class ScalarEmbedding(nn.Module):
    """One number per sequence as a vector: a sinusoid of 256 values, then `Linear -> SiLU -> Linear`."""

    num_frequencies = 128
    frequencies: Tensor

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        index = torch.arange(self.num_frequencies, dtype=torch.float32)
        self.register_buffer(
            "frequencies", torch.exp(-math.log(10_000) * index / self.num_frequencies), persistent=False
        )
        self.expand = nn.Linear(2 * self.num_frequencies, hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size)

    def forward(self, scalar: Tensor) -> Tensor:
        """Scalars (B,) -> (B, H); times stay in [0, 1] and are not multiplied by 1000."""
        angles = scalar.float()[:, None] * self.frequencies
        sinusoid = torch.cat([angles.cos(), angles.sin()], dim=-1)
        return self.out(F.silu(self.expand(sinusoid)))  # type: ignore[no-any-return]
