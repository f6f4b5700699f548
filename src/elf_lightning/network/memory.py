"""What a training step keeps in memory for its backward pass, by formula.

Bytes a position and block, with `a` bytes a value in the compute type (2 in bfloat16-mixed, else 4), hidden
size H and feed-forward width W:

    inputs of both norms, float32              8 H
    inputs of the qkv and gate layers          2 a H
    queries, keys, values                      3 a H
    queries and keys in float32                8 H       (a = 2, or on a CPU)
    rotated queries and keys                   2 a H
    attention's output                         a H
    gate and value, SiLU, their product        4 a W
    softmax and norm statistics                4 (3 heads + 2)

A CPU keeps what its norms have scaled, in place of their inputs. Each matrix of a block is kept once more in
the compute type (a = 2). Compilation needs less than all this.
"""

from __future__ import annotations

from elf_lightning.network.heads import CHUNK_LOGITS
from elf_lightning.network.transformer import ELFNetwork


def activation_bytes(
    network: ELFNetwork,
    rows: int,
    length: int,
    compute_bytes: int = 2,
    fused: bool = True,
    checkpointing: bool | None = None,
) -> int:
    """Activations of the transformer blocks that wait for the backward pass.

    Args:
        network: whose sizes count; with gradient checkpointing only each block's input stays, and one block
            at a time is whole.
        rows: rows of the micro-batch.
        length: text positions of a row, padding included.
        compute_bytes: of a value in the compute type: 2 or 4.
        fused: whether norms are those of a GPU.
        checkpointing: with gradient checkpointing or without; None for what the network does.
    """
    config = network.config
    if checkpointing is None:
        checkpointing = config.gradient_checkpointing
    positions = rows * (length + network.prefix.length)
    block = positions * _position_bytes(network, compute_bytes, fused) + _cast_bytes(network, compute_bytes)
    if checkpointing:
        return block + config.depth * positions * 4 * config.hidden_size
    return config.depth * block


def head_bytes(network: ELFNetwork, rows: int, length: int, decode_rows: float) -> int:
    """What lies outside the blocks, in float32: projections, both heads, and a chunk of logits, twice.

    The two are the logits and their softmax, which turns into their gradient.
    """
    hidden, latent = network.config.hidden_size, network.latent_size
    each = 4 * (3 * latent + network.config.bottleneck_size + 2 * hidden)
    denoise = 4 * (hidden + 3 * latent)
    decode = 4 * 2 * latent
    logits = min(length * decode_rows, max(1, CHUNK_LOGITS // network.vocab_size)) * network.vocab_size
    positions = rows * each + (rows - decode_rows) * denoise + decode_rows * decode
    return round(length * positions + 2 * 4 * logits)


def _position_bytes(network: ELFNetwork, compute: int, fused: bool) -> int:
    hidden, heads = network.config.hidden_size, network.config.num_heads
    feed_forward = int(hidden * network.config.mlp_ratio * 2 / 3)
    copies = 8 * hidden if compute < 4 or not fused else 0
    statistics = 4 * (3 * heads + 2)
    return 8 * (1 + compute) * hidden + 4 * compute * feed_forward + copies + statistics


def _cast_bytes(network: ELFNetwork, compute: int) -> int:
    if compute == 4:
        return 0
    return compute * sum(p.numel() for p in network.blocks[0].parameters() if p.ndim == 2)
