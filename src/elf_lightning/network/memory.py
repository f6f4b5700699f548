"""Memory that a training step keeps for its backward pass, in bytes, by formula.

Per position and block, with `a` bytes a value in the compute type (2 in bfloat16-mixed, else 4), hidden size
H and feed-forward width W:

    inputs of both norms, float32              8 H
    inputs of the qkv and gate layers          2 a H
    queries, keys, values                      3 a H
    queries and keys in float32                8 H       (a = 2)
    rotated queries and keys                   2 a H
    attention's output                         a H
    gate and value, SiLU, their product        4 a W
    softmax and norm statistics                4 (3 heads + 2)

Each matrix of a block is also kept in the compute type (a = 2). A compiled network needs less. A CPU, which
has no fused norm, needs 16 H more.
"""

from __future__ import annotations

from elf_lightning.network.projections import CHUNK_LOGITS
from elf_lightning.network.transformer import ELFNetwork


def activation_bytes(
    network: ELFNetwork, rows: int, length: int, compute_bytes: int = 2, checkpointing: bool | None = None
) -> int:
    """Activations of the blocks that wait for the backward pass, for `rows` sequences of `length` tokens.

    With gradient checkpointing (None: as the network has it), all blocks keep their inputs and one block at a
    time keeps everything. `compute_bytes` is 2 or 4.
    """
    config, a = network.config, compute_bytes
    hidden, feed_forward = config.hidden_size, int(config.hidden_size * config.mlp_ratio * 2 / 3)
    positions = rows * (length + network.prefix.length)
    position = 8 * (1 + a) * hidden + 4 * a * feed_forward + 4 * (3 * config.num_heads + 2)
    block = positions * position
    if a == 2:
        block += positions * 8 * hidden
        block += 2 * sum(p.numel() for p in network.blocks[0].parameters() if p.ndim == 2)
    if config.gradient_checkpointing if checkpointing is None else checkpointing:
        return block + config.depth * positions * 4 * hidden
    return config.depth * block


def head_bytes(network: ELFNetwork, rows: int, length: int, decode_rows: float) -> int:
    """Everything outside the blocks, in float32: projections, both heads, and a chunk of logits, twice.

    The two are the logits and their softmax, which turns into their gradient. Arguments as in
    `activation_bytes`; `decode_rows` sequences decode, the others denoise.
    """
    hidden, latent = network.config.hidden_size, network.latent_size
    each = 4 * (3 * latent + network.config.bottleneck_size + 2 * hidden)
    denoise, decode = 4 * (hidden + 3 * latent), 4 * 2 * latent
    logits = min(length * decode_rows, max(1, CHUNK_LOGITS // network.vocab_size)) * network.vocab_size
    return round(length * (rows * each + (rows - decode_rows) * denoise + decode_rows * decode) + 8 * logits)
