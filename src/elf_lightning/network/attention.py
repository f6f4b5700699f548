"""Bidirectional attention with normalised queries and keys and rotary positions on the text."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elf_lightning.network.layers import RMSNorm


def rotary_table(head_size: int, prefix_length: int, max_length: int, theta: float = 10_000.0) -> Tensor:
    """Cosines and sines of the rotary angles, (prefix_length + max_length, 1, head_size / 2, 2).

    Text starts at position 0; the prefix before it has angle 0 and is not rotated.
    """
    frequencies = theta ** (-torch.arange(0, head_size, 2, dtype=torch.float32) / head_size)
    positions = torch.cat([torch.zeros(prefix_length), torch.arange(max_length, dtype=torch.float32)])
    angles = positions[:, None, None] * frequencies
    return torch.stack([angles.cos(), angles.sin()], dim=-1)


def rotate(x: Tensor, rotary: Tensor) -> Tensor:
    """Rotate neighbouring pairs of values of `x` (..., N, heads, head_size) by the angles of their position.

    Args:
        x: float32.
        rotary: (N, 1, head_size / 2, 2), see `rotary_table`.
    """
    pairs, rotary = x.reshape(*x.shape[:-1], -1, 2), rotary.float()
    if not torch.compiler.is_compiling():
        # One kernel instead of six: 6% of a training step on a CPU. The compiler fuses the six itself, and
        # does not support complex numbers.
        return torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(rotary)).flatten(-2)
    even, odd = pairs.unbind(-1)
    cos, sin = rotary.unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


class Attention(nn.Module):
    """Multi-head self-attention, bidirectional."""

    def __init__(self, hidden_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        head_size = hidden_size // num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.q_norm = RMSNorm(head_size)
        self.k_norm = RMSNorm(head_size)
        self.out = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, rotary: Tensor, mask: Tensor | None) -> Tensor:
        """Hidden states (B, N, H) -> (B, N, H).

        Args:
            h: (B, N, H).
            rotary: (N, 1, head_size / 2, 2), see `rotary_table`.
            mask: (B, 1, 1, N) boolean, True at positions that may be attended to; None for all.
        """
        q, k, v = self.qkv(h).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        q = rotate(self.q_norm(q.float()), rotary).type_as(v)
        k = rotate(self.k_norm(k.float()), rotary).type_as(v)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))  # type: ignore[no-any-return]
