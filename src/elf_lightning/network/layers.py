"""The small layers every block is made of."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from elf_lightning.network.precision import full_precision

EPS = 1e-6


class RMSNorm(nn.RMSNorm):
    """Root-mean-square norm over the last dimension, computed in float32 whatever the input's type."""

    def __init__(self, size: int) -> None:
        super().__init__(size, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised `x`, same shape and type."""
        if x.device.type == "cpu" and not torch.compiler.is_compiling():
            normalised: Tensor = _RMSNormOnCPU.apply(x.float(), self.weight.float())  # type: ignore[no-untyped-call]
        else:
            normalised = F.rms_norm(x.float(), self.normalized_shape, self.weight.float(), EPS)
        return normalised.type_as(x)


class _RMSNormOnCPU(torch.autograd.Function):
    """`F.rms_norm` with half its passes over memory: torch has no fused kernel for a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """`x` (..., H) and weight (H,) -> (..., H)."""
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(EPS).rsqrt_()
        unit: Tensor = x * scale
        ctx.save_for_backward(unit, scale, weight)
        return unit * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of `x` and weight."""
        unit, scale, weight = ctx.saved_tensors
        product = gradient * unit
        with full_precision(product):
            along = (product @ weight).div_(len(weight)).unsqueeze(-1)
        of_x = (gradient * weight).addcmul_(unit, along, value=-1).mul_(scale)
        return of_x, product.flatten(0, -2).sum(0)


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
    """A number per row as a vector: a sinusoid of 256 values, then `Linear -> SiLU -> Linear`."""

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
        """Scalars (B,) -> (B, H); times stay in [0, 1], they are not multiplied by 1000."""
        angles = scalar.float()[:, None] * self.frequencies
        sinusoid = torch.cat([angles.cos(), angles.sin()], dim=-1)
        return self.out(F.silu(self.expand(sinusoid)))  # type: ignore[no-any-return]
