"""Floating-point operations of the network, by formula: the numerator of the model FLOPs utilisation.

Counted are matrix products, a multiply and an add as 2, and of attention the two products with the whole
(N, N) matrix. Norms, activations, rotations and the optimizer are left out, as is recomputation under
gradient checkpointing, which is no work of the model (Chowdhery et al. 2022, arXiv 2204.02311, appendix B).
`torch.utils.flop_counter` counts the same.

With `N = S + prefix`, feed-forward width `W` and bottleneck `b`, a row costs

    backbone = 2 S (2 C b + b H)                         latents to hidden states
             + 2 (256 H + H H) each of time and guidance prefix
             + depth (2 N (4 H H + 3 H W) + 4 N N H)      blocks
    latent head = 2 S H C
    token head  = 2 S (H C + C V)

and the backward pass twice that, but for the gradients of inputs that nobody trains. Once a call, whatever
the number of rows, `4 C C b` merge the two layers that take the latents in.
"""

from __future__ import annotations

from elf_lightning.network.layers import ScalarEmbedding
from elf_lightning.network.transformer import ELFNetwork


def backbone_flops(network: ELFNetwork, length: int) -> int:
    """From noised latents to hidden states: one row of `length` text positions, forward."""
    config = network.config
    hidden, bottleneck = config.hidden_size, config.bottleneck_size
    positions = length + network.prefix.length
    feed_forward = int(hidden * config.mlp_ratio * 2 / 3)
    project = _enter_flops(network, length) + 2 * length * bottleneck * hidden
    linear = 2 * positions * hidden * (4 * hidden + 3 * feed_forward)
    attention = 4 * positions**2 * hidden
    return project + _prefix_flops(network) + config.depth * (linear + attention)


def latent_head_flops(network: ELFNetwork, length: int) -> int:
    """From hidden states to latents: one row, forward."""
    return 2 * length * network.config.hidden_size * network.latent_size


def token_head_flops(network: ELFNetwork, length: int) -> int:
    """From hidden states to logits: one row, forward."""
    return 2 * length * network.latent_size * (network.config.hidden_size + network.vocab_size)


def merging_flops(network: ELFNetwork) -> int:
    """Once for each call with self-conditioning, forward."""
    return 4 * network.latent_size**2 * network.config.bottleneck_size * network.config.self_conditioning


def training_step_flops(
    network: ELFNetwork, rows: int, length: int, decode_rows: float, self_cond_rows: float
) -> float:
    """Forward and backward over the rows of a micro-batch, each row computed no further than its mode needs.

    Every row goes through the backbone with gradient, and through the head of its mode; self-conditioning
    rows go twice through backbone and latent head without gradient besides.

    Args:
        network: whose sizes count.
        rows: rows of the micro-batch.
        length: text positions of a row, padding included.
        decode_rows: rows that decode; the others denoise. A mean, such as `0.2 * rows`, gives the mean.
        self_cond_rows: denoise rows with self-conditioning.
    """
    backbone = backbone_flops(network, length)
    latent_head = latent_head_flops(network, length)
    heads = (rows - decode_rows) * latent_head + decode_rows * token_head_flops(network, length)
    untrained_inputs = rows * (_enter_flops(network, length) + _expand_flops(network))
    merging = merging_flops(network) * (5 if self_cond_rows else 3)
    trained = 3 * (rows * backbone + heads) - untrained_inputs + merging
    return trained + 2 * self_cond_rows * (backbone + latent_head)


def sampling_flops(network: ELFNetwork, rows: int, length: int, calls: int, passes: int = 1) -> int:
    """Estimates of rows at `calls` times that they share, and their tokens.

    Args:
        network: whose sizes count.
        rows: rows of the batch.
        length: text positions of a row, padding included.
        calls: steps, but for solvers that ask the network more than once a step.
        passes: 2 under classifier-free guidance.
    """
    prefix = _prefix_flops(network)
    estimate = backbone_flops(network, length) - prefix + latent_head_flops(network, length)
    decode = backbone_flops(network, length) + token_head_flops(network, length)
    once = merging_flops(network)
    return calls * (passes * rows * estimate + prefix + once) + rows * decode + once


def _prefix_flops(network: ELFNetwork) -> int:
    return _expand_flops(network) + 2 * network.config.hidden_size**2 * _embeddings(network)


def _enter_flops(network: ELFNetwork, length: int) -> int:
    """The first matrix, from the latents and an earlier estimate of them to the bottleneck."""
    inputs = network.latent_size * (2 if network.config.self_conditioning else 1)
    return 2 * length * inputs * network.config.bottleneck_size


def _expand_flops(network: ELFNetwork) -> int:
    """The first layer of the scalar embeddings, whose input is a sinusoid."""
    return 4 * ScalarEmbedding.num_frequencies * network.config.hidden_size * _embeddings(network)


def _embeddings(network: ELFNetwork) -> int:
    """Scalars a row that are embedded: the time, and the guidance scale where there are tokens for it."""
    return 1 if network.prefix.guidance is None else 2
