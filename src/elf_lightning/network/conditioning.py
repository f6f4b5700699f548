"""The prefix tokens that condition the network on time, guidance scale and mode."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elf_lightning.network.config import NetworkConfig


class ScalarEmbedding(nn.Module):
    """One number per sequence as a vector: a sinusoid of 256 values, then `Linear -> SiLU -> Linear`."""

    num_frequencies = 128
    frequencies: Tensor

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        exponents = torch.arange(self.num_frequencies, dtype=torch.float32) / self.num_frequencies
        self.register_buffer("frequencies", torch.exp(-math.log(10_000) * exponents), persistent=False)
        self.expand = nn.Linear(2 * self.num_frequencies, hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size)

    def forward(self, scalar: Tensor) -> Tensor:
        """Scalars (B,) -> (B, H); times stay in [0, 1] and are not multiplied by 1000."""
        angles = scalar.float()[:, None] * self.frequencies
        sinusoid = torch.cat([angles.cos(), angles.sin()], dim=-1)
        return self.out(F.silu(self.expand(sinusoid)))  # type: ignore[no-any-return]


class ScalarTokens(nn.Module):
    """Learned tokens plus the embedding of one scalar per sequence."""

    def __init__(self, num_tokens: int, hidden_size: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(1, num_tokens, hidden_size))
        self.embedding = ScalarEmbedding(hidden_size)

    def forward(self, scalar: Tensor) -> Tensor:
        """Scalars (B,) -> tokens (B, num_tokens, H)."""
        return self.tokens + self.embedding(scalar)[:, None]  # type: ignore[no-any-return]


class ModeTokens(nn.Module):
    """Learned tokens times a gate: 0 to denoise, 1 to decode."""

    def __init__(self, num_tokens: int, hidden_size: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(1, num_tokens, hidden_size))

    def forward(self, decode_gate: Tensor) -> Tensor:
        """Gates (B,) -> tokens (B, num_tokens, H)."""
        return self.tokens * decode_gate[:, None, None]


class Prefix(nn.Module):
    """Time, guidance and mode tokens, in this order."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width, num_guidance = config.hidden_size, config.num_guidance_tokens
        self.length = config.num_time_tokens + num_guidance + config.num_mode_tokens
        self.time = ScalarTokens(config.num_time_tokens, width)
        self.guidance = ScalarTokens(num_guidance, width) if num_guidance else None
        self.mode = ModeTokens(config.num_mode_tokens, width)

    def forward(self, t: Tensor, guidance: Tensor, decode_gate: Tensor) -> Tensor:
        """Times, guidance scales (ignored without such tokens) and gates, (B,) -> tokens (B, length, H)."""
        scale = [] if self.guidance is None else [self.guidance(guidance)]
        return torch.cat([self.time(t), *scale, self.mode(decode_gate)], dim=1)
