"""Sampling without fast paths.

Every step of classifier-free guidance is two passes one after the other, each through the whole network:
prefix, all layers and both heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.baseline.network import both_heads
from benchmarks.measure import counted_flops
from benchmarks.sizes import Size
from elf_lightning.batch import LatentPromptBatch
from elf_lightning.flow import RectifiedPath
from elf_lightning.network import ELFNetwork
from elf_lightning.sampling import SamplingSettings

Forward = Callable[..., tuple[Tensor, Tensor]]


@torch.no_grad()
def baseline_sample(
    network: ELFNetwork,
    path: RectifiedPath,
    settings: SamplingSettings,
    prompt: LatentPromptBatch,
    times: Sequence[float],
    noise: Callable[[], Tensor],
    forward: Forward = both_heads,
) -> tuple[Tensor, Tensor]:
    """Latents at t=1, (B, S, C), and the most likely tokens (B, S) after the condition, then zeros.

    Of the settings, the solvers `ode` and `sde`, `guidance` and `cfg_scale` count; `noise` draws (B, S, C) of
    the path's standard deviation. The steps take `forward`, decoding takes both heads.
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
    shifted = [torch.cat([ids[n:], 0 * ids[:n]]) for ids, n in zip(tokens, lengths, strict=True)]
    return z, torch.stack(shifted)


def baseline_sampling_flops(
    size: Size, batch_size: int, calls: int, passes: int, forward: Forward = both_heads
) -> int:
    """FLOPs of `baseline_sample` with `calls` steps, counted on one sequence without computing anything.

    There are 2 `passes` a step under classifier-free guidance.
    """
    with FakeTensorMode(), torch.no_grad():
        network, z = size.network(), torch.zeros(1, size.max_length, size.latent_size)
        one = torch.ones(1)
        step, decoding = (
            counted_flops(partial(heads, network, z, one, one, one, z)) for heads in (forward, both_heads)
        )
    return batch_size * (calls * passes * step + decoding)
