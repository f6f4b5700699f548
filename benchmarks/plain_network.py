"""The network's forward pass the obvious way, on its own weights: what its fast paths must equal."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elf_lightning.network import ELFNetwork
from elf_lightning.network.attention import Attention
from elf_lightning.network.flops import backbone_flops
from elf_lightning.network.layers import ScalarEmbedding


def plain_hidden(
    network: ELFNetwork, z: Tensor, t: Tensor, guidance: Tensor, gate: Tensor, self_cond: Tensor
) -> Tensor:
    """Hidden states (B, S, H) of `network(z, t, guidance, gate, self_cond)`, layer by layer."""
    entrance = network.latent_in
    merge = entrance.merge_self_cond
    x = z if merge is None else merge(torch.cat([z, self_cond], dim=-1))
    prefix = network.prefix(t, guidance, gate)
    h = torch.cat([prefix, entrance.up(entrance.down(x))], dim=1)
    length = prefix.shape[1]
    angles = rotary_angles(length, z.shape[1], network.config.hidden_size // network.config.num_heads).to(h)
    block: Any
    for block in network.blocks:
        h = h + attention(block.attention, rms_norm(block.attention_norm, h), angles)
        gate_value = block.mlp.gate_value(rms_norm(block.mlp_norm, h))
        opened, value = gate_value.chunk(2, dim=-1)
        h = h + block.mlp.out(block.mlp.dropout(F.silu(opened) * value))
    return h[:, length:]


def both_heads(
    network: ELFNetwork, z: Tensor, t: Tensor, guidance: Tensor, gate: Tensor, self_cond: Tensor
) -> tuple[Tensor, Tensor]:
    """Estimate (B, S, C) and logits (B, S, V), whichever is wanted."""
    hidden = plain_hidden(network, z, t, guidance, gate, self_cond)
    return network.latent_head(hidden), network.token_head(hidden)


def plain_backbone_flops(network: ELFNetwork, length: int) -> int:
    """Of `plain_hidden`, a row forward: it merges and then narrows, where the network does both at once."""
    size, bottleneck = network.latent_size, network.config.bottleneck_size
    merge = 4 * length * size**2 - 2 * length * size * bottleneck if network.config.self_conditioning else 0
    return backbone_flops(network, length) + merge


def untrained_flops(network: ELFNetwork, length: int) -> int:
    """Of the gradients of inputs that nobody trains, a row: they are not taken."""
    shape, size = network.config, network.latent_size
    enter = 4 * length * size**2 if shape.self_conditioning else 2 * length * size * shape.bottleneck_size
    embedded = 1 if network.prefix.guidance is None else 2
    return enter + 4 * ScalarEmbedding.num_frequencies * shape.hidden_size * embedded


def rms_norm(norm: nn.RMSNorm, x: Tensor) -> Tensor:
    """`norm(x)`, in as many passes as the formula has operations."""
    return x * (x.pow(2).mean(dim=-1, keepdim=True) + 1e-6).rsqrt() * norm.weight


def rotary_angles(prefix_length: int, length: int, head_size: int) -> Tensor:
    """Angles of the rotation, (prefix_length + length, head_size / 2); the prefix has none."""
    frequencies = 10_000.0 ** (-torch.arange(0, head_size, 2) / head_size)
    return torch.cat([torch.zeros(prefix_length), torch.arange(length)])[:, None] * frequencies


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turns neighbouring pairs of `x` (..., N, head_size)."""
    even, odd = x[..., ::2], x[..., 1::2]
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


def attention(layer: Attention, h: Tensor, angles: Tensor) -> Tensor:
    """`layer(h)` (B, N, H), every position seeing every position."""
    q, k, v = (
        part.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2) for part in layer.qkv(h).chunk(3, dim=-1)
    )
    q, k = rotate(rms_norm(layer.q_norm, q), angles), rotate(rms_norm(layer.k_norm, k), angles)
    mixed = F.scaled_dot_product_attention(q, k, v)
    dropped: Tensor = layer.dropout(layer.out(mixed.transpose(1, 2).flatten(2)))
    return dropped
