"""The network's forward pass without fast paths, on the network's own weights."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elf_lightning.network import ELFNetwork
from elf_lightning.network.blocks import Attention


def hidden_states(
    network: ELFNetwork, z: Tensor, t: Tensor, guidance: Tensor, gate: Tensor, self_cond: Tensor
) -> Tensor:
    """Hidden states (B, S, H) of `network(z, t, guidance, gate, self_cond)`, layer by layer."""
    h = torch.cat([network.prefix(t, guidance, gate), latents_in(network.latent_in, z, self_cond)], dim=1)
    prefix_length, head_size = network.prefix.length, network.config.hidden_size // network.config.num_heads
    angles = rotary_angles(prefix_length, z.shape[1], head_size).to(h)
    block: Any
    for block in network.blocks:
        h = h + attention(block.attention, rms_norm(block.attention_norm, h), angles)
        gate_half, value = block.mlp.gate_value(rms_norm(block.mlp_norm, h)).chunk(2, dim=-1)
        h = h + block.mlp.out(block.mlp.dropout(F.silu(gate_half) * value))
    return h[:, prefix_length:]


def both_heads(
    network: ELFNetwork, z: Tensor, t: Tensor, guidance: Tensor, gate: Tensor, self_cond: Tensor
) -> tuple[Tensor, Tensor]:
    """Estimate (B, S, C) and logits (B, S, V), whichever is needed."""
    hidden = hidden_states(network, z, t, guidance, gate, self_cond)
    return network.latent_head(hidden), network.token_head(hidden)


def latent_head_only(
    network: ELFNetwork, z: Tensor, t: Tensor, guidance: Tensor, gate: Tensor, self_cond: Tensor
) -> tuple[Tensor, Tensor]:
    """Estimate (B, S, C) and hidden states (B, S, H)."""
    hidden = hidden_states(network, z, t, guidance, gate, self_cond)
    return network.latent_head(hidden), hidden


def latents_in(layer: Any, z: Tensor, self_cond: Tensor | None) -> Tensor:
    """`network.latent_in(z, self_cond)`, one linear layer after the other."""
    if layer.merge_self_cond is not None and self_cond is not None:
        z = layer.merge_self_cond(torch.cat([z, self_cond], dim=-1))
    return layer.up(layer.down(z))  # type: ignore[no-any-return]


def rms_norm(norm: nn.RMSNorm, x: Tensor) -> Tensor:
    """`norm(x)`, as the formula says."""
    return x * (x.pow(2).mean(dim=-1, keepdim=True) + 1e-6).rsqrt() * norm.weight


def rotary_angles(prefix_length: int, length: int, head_size: int) -> Tensor:
    """Rotary angles, (prefix_length + length, head_size / 2); those of the prefix are 0."""
    frequencies = 10_000.0 ** (-torch.arange(0, head_size, 2) / head_size)
    return torch.cat([torch.zeros(prefix_length), torch.arange(length)])[:, None] * frequencies


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate neighbouring pairs of `x` (..., N, head_size)."""
    even, odd = x[..., ::2], x[..., 1::2]
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


def attention(layer: Attention, h: Tensor, angles: Tensor) -> Tensor:
    """`layer(h)` (B, N, H) without a mask."""
    q, k, v = (
        part.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2) for part in layer.qkv(h).chunk(3, dim=-1)
    )
    q, k = rotate(rms_norm(layer.q_norm, q), angles), rotate(rms_norm(layer.k_norm, k), angles)
    mixed = F.scaled_dot_product_attention(q, k, v)
    return layer.dropout(layer.out(mixed.transpose(1, 2).flatten(2)))  # type: ignore[no-any-return]
