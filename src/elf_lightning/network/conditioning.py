"""The prefix tokens that condition the network on time, guidance scale and mode."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from elf_lightning.network.layers import ScalarEmbedding


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

    def __init__(
        self, hidden_size: int, num_time_tokens: int, num_guidance_tokens: int, num_mode_tokens: int
    ) -> None:
        super().__init__()
        self.length = num_time_tokens + num_guidance_tokens + num_mode_tokens
        self.time = ScalarTokens(num_time_tokens, hidden_size)
        self.guidance = ScalarTokens(num_guidance_tokens, hidden_size) if num_guidance_tokens else None
        self.mode = ModeTokens(num_mode_tokens, hidden_size)

    def forward(self, t: Tensor, guidance: Tensor, decode_gate: Tensor) -> Tensor:
        """Times, guidance scales and gates, (B,) each -> prefix tokens (B, length, H).

        A network without guidance tokens ignores `guidance`.
        """
        tokens = [self.time(t)]
        if self.guidance is not None:
            tokens.append(self.guidance(guidance))
        tokens.append(self.mode(decode_gate))
        return torch.cat(tokens, dim=1)
