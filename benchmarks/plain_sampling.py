"""Sampling the obvious way: the baseline that the sampler is measured against, and must agree with.

At every step two passes one after the other for classifier-free guidance, each through the whole network:
prefix, all layers and both heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from benchmarks.plain_network import both_heads, plain_backbone_flops, plain_hidden
from elf_lightning.batch import LatentPromptBatch
from elf_lightning.flow import RectifiedPath
from elf_lightning.network import ELFNetwork
from elf_lightning.network.flops import latent_head_flops, token_head_flops
from elf_lightning.sampling import SamplingSettings


def one_head(
    network: ELFNetwork, z: Tensor, t: Tensor, guidance: Tensor, gate: Tensor, self_cond: Tensor
) -> tuple[Tensor, Tensor]:
    """The estimate (B, S, C) alone, and what the token head would take, (B, S, H)."""
    hidden = plain_hidden(network, z, t, guidance, gate, self_cond)
    return network.latent_head(hidden), hidden


@torch.no_grad()
def plain_sample(
    network: ELFNetwork,
    path: RectifiedPath,
    settings: SamplingSettings,
    prompt: LatentPromptBatch,
    times: Sequence[float],
    noise: Callable[[], Tensor],
    forward: Callable[..., tuple[Tensor, Tensor]] = both_heads,
) -> tuple[Tensor, Tensor]:
    """Latents at t=1, (B, S, C), and the most likely tokens (B, S) after the condition, then zeros.

    Args:
        network: in eval mode.
        path: of its training.
        settings: solver `ode` or `sde`, guidance and `cfg_scale`.
        prompt: B rows.
        times: of the steps.
        noise: draws (B, S, C) of the path's standard deviation.
        forward: of the steps, `both_heads` or `one_head`; decoding takes both.
    """
    known = prompt.condition_mask[..., None]
    ones = torch.ones(len(prompt), device=prompt.latents.device)
    guidance = settings.guidance * ones
    z = torch.where(known, prompt.latents, noise())
    x_hat = torch.where(known, prompt.latents, 0.0)
    for t, t_next in pairwise(times):
        if settings.solver == "sde" and t_next < 1:
            kept = min(max(1 - settings.gamma * (t_next - t), 0.0), 1.0)
            t = kept * t
            z = torch.where(known, prompt.latents, kept * z + (1 - kept) * noise())
        estimate, _ = forward(network, z, t * ones, guidance, 0 * ones, x_hat)
        if settings.cfg_scale != 1 and known.any():
            blind, hidden = torch.where(known, 0.0, z), torch.where(known, 0.0, x_hat)
            without, _ = forward(network, blind, t * ones, guidance, 0 * ones, hidden)
            estimate = without + settings.cfg_scale * (estimate - without)
        x_hat = torch.where(known, prompt.latents, estimate)
        z = z + (t_next - t) * path.velocity(x_hat, z, t * ones)
    _, logits = both_heads(network, z, ones, guidance, ones, torch.zeros_like(z))
    tokens = logits.argmax(-1)
    lengths = prompt.condition_mask.sum(dim=1).tolist()
    cut = [torch.cat([row[length:], 0 * row[:length]]) for row, length in zip(tokens, lengths, strict=True)]
    return z, torch.stack(cut)


def plain_flops(
    network: ELFNetwork, rows: int, length: int, calls: int, passes: int = 1, every_head: bool = True
) -> int:
    """FLOPs of `plain_sample`, by formula; arguments as for `network.flops.sampling_flops`.

    Args:
        network: whose sizes count.
        rows: rows of the batch.
        length: text positions of a row.
        calls: steps.
        passes: 2 under classifier-free guidance.
        every_head: with `both_heads`, else with `one_head`.
    """
    forwards = calls * passes + 1
    forward = plain_backbone_flops(network, length) + latent_head_flops(network, length)
    return rows * (forwards * forward + token_head_flops(network, length) * (forwards if every_head else 1))
