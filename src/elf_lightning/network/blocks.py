"""The transformer blocks: nearly all of the network's work, and the part that is compiled."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from elf_lightning.network.attention import Attention
from elf_lightning.network.config import NetworkConfig
from elf_lightning.network.layers import RMSNorm, SwiGLU


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: NetworkConfig, dropout: float) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size)
        self.attention = Attention(config.hidden_size, config.num_heads, dropout)
        self.mlp_norm = RMSNorm(config.hidden_size)
        self.mlp = SwiGLU(config.hidden_size, config.mlp_ratio, dropout)

    def forward(self, h: Tensor, rotary: Tensor, mask: Tensor | None) -> Tensor:
        """Hidden states (B, N, H) -> (B, N, H)."""
        h = h + self.attention(self.attention_norm(h), rotary, mask)
        return h + self.mlp(self.mlp_norm(h))  # type: ignore[no-any-return]


class Blocks(nn.ModuleList):
    """All blocks in sequence; dropout only in the middle half of them."""

    def __init__(self, config: NetworkConfig) -> None:
        middle = range(config.depth // 4, config.depth // 4 * 3)
        super().__init__(
            Block(config, config.dropout if index in middle else 0.0) for index in range(config.depth)
        )
        self.gradient_checkpointing = config.gradient_checkpointing

    def forward(self, h: Tensor, rotary: Tensor, mask: Tensor | None) -> Tensor:
        """Hidden states (B, N, H) -> (B, N, H)."""
        for block in self:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                h = checkpoint(block, h, rotary, mask, use_reentrant=False)
            else:
                h = block(h, rotary, mask)
        return h
