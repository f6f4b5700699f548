"""FLOPs of the network, the numerator of the model FLOPs utilisation, counted by `torch.utils.flop_counter`.

The counter runs once per network size and length on meta tensors, which have no values. It counts matrix
products (a multiply and an add are 2 FLOPs), and for attention the two products with the whole (N, N) matrix.
Norms, activations, rotations and the optimizer are left out, as is recomputation under gradient
checkpointing, which is not work of the model (Chowdhery et al. 2022, arXiv 2204.02311, appendix B).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from elf_lightning.network.config import NetworkConfig
from elf_lightning.network.transformer import ELFNetwork


@dataclass(frozen=True)
class _Flops:
    """FLOPs of a forward pass, and of forward and backward pass together."""

    forward: int
    training: int


def training_step_flops(
    network: ELFNetwork, rows: int, length: int, decode_rows: float, self_cond_rows: float
) -> float:
    """Forward and backward pass of a micro-batch in which each sequence is computed as far as its mode needs.

    Every sequence goes through the backbone with gradient, and through the head of its mode.
    Self-conditioning sequences also go twice through backbone and latent head without gradient.

    Args:
        network: only its sizes matter.
        rows: sequences in the micro-batch.
        length: tokens of a sequence, padding included.
        decode_rows: sequences that decode; the others denoise. A mean, such as `0.2 * rows`, gives the mean.
        self_cond_rows: denoise sequences with self-conditioning.
    """
    flops = _counts(network, length)
    backbone, latent_head, once = flops["backbone"], flops["latent_head"], flops["once"]
    heads = (rows - decode_rows) * latent_head.training + decode_rows * flops["token_head"].training
    total = rows * backbone.training + once.training + heads
    if self_cond_rows:
        total += 2 * (self_cond_rows * (backbone.forward + latent_head.forward) + once.forward)
    return total


def sampling_flops(network: ELFNetwork, rows: int, length: int, calls: int, passes: int = 1) -> int:
    """Network calls at `calls` times that all sequences share, and the decoding of their tokens.

    Args:
        network: only its sizes matter.
        rows: sequences in the batch.
        length: tokens of a sequence, padding included.
        calls: steps; more for solvers that call the network several times a step.
        passes: 2 under classifier-free guidance.
    """
    flops = _counts(network, length)
    backbone, once, prefix = (flops[part].forward for part in ("backbone", "once", "prefix"))
    call = passes * rows * (backbone - prefix + flops["latent_head"].forward) + prefix + once
    return calls * call + rows * (backbone + flops["token_head"].forward) + once


def _counts(network: ELFNetwork, length: int) -> dict[str, _Flops]:
    return _count(network.config, network.latent_size, network.vocab_size, length)


@lru_cache
def _count(config: NetworkConfig, latent_size: int, vocab_size: int, length: int) -> dict[str, _Flops]:
    """FLOPs of one sequence by part; `once` is the cost of a call that does not depend on its sequences."""
    with torch.device("meta"):
        # One block is enough: the others cost the same.
        shallow = replace(config, depth=1, gradient_checkpointing=False)
        network = ELFNetwork(shallow, latent_size, vocab_size, length)
        hidden = torch.empty(1, length, config.hidden_size, requires_grad=True)
        positions = torch.empty(1, len(network.rotary), config.hidden_size, requires_grad=True)
        z, scalar = torch.empty(2, length, latent_size), torch.empty(2)
    one = _measure(lambda: network(z[:1], scalar[:1], scalar[:1], scalar[:1], z[:1]))
    two = _measure(lambda: network(z, scalar, scalar, scalar, z))
    block = _measure(lambda: network.blocks[0](positions, network.rotary, None))
    others = config.depth - 1
    return {
        "backbone": _Flops(
            two.forward - one.forward + others * block.forward,
            two.training - one.training + others * block.training,
        ),
        "once": _Flops(2 * one.forward - two.forward, 2 * one.training - two.training),
        "prefix": _measure(lambda: network.prefix(scalar[:1], scalar[:1], scalar[:1])),
        "latent_head": _measure(lambda: network.latent_head(hidden)),
        "token_head": _measure(lambda: network.token_head(hidden)),
    }


def _measure(part: Callable[[], Tensor]) -> _Flops:
    # Fused attention kernels are not counted on every device; the plain one always is.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        result = part()
        forward = counter.get_total_flops()
        result.backward(torch.empty_like(result))  # type: ignore[no-untyped-call]
    return _Flops(forward, counter.get_total_flops())
