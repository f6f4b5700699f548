"""A training step the obvious way: the baseline that the product is measured against, and must equal.

Every row goes through every forward pass and both heads, and masks choose afterwards, as in the published
code; all logits are there at once; Newton-Schulz takes one matrix after the other, and the average one
parameter after the other.
"""

from __future__ import annotations

from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.plain_network import both_heads, plain_backbone_flops, untrained_flops
from elf_lightning.batch import LatentBatch
from elf_lightning.network import ELFNetwork
from elf_lightning.network.flops import latent_head_flops, token_head_flops
from elf_lightning.objectives import Draws, ELFObjective
from elf_lightning.optim.newton_schulz import COEFFICIENTS, EPS, ITERATIONS


def plain_loss(
    objective: ELFObjective, network: ELFNetwork, batch: LatentBatch, draws: Draws
) -> tuple[Tensor, Tensor]:
    """The loss of `objective(network, batch, draws)`, and its decode rows' hits, both ().

    Sizes are those of the whole batch throughout.
    """
    path, row = objective.path, torch.arange(len(batch), device=draws.t.device)
    decodes = (row < draws.num_decode)[:, None, None]
    conditioned = ~decodes & (row < draws.num_decode + draws.num_self_cond)[:, None, None]
    known = batch.condition_mask[..., None]
    x = torch.where(known & batch.label_drop[:, None, None], 0.0, batch.latents)
    clean = torch.where(known, x, 0.0)
    t, w = draws.t, draws.guidance
    z = torch.where(known, x, path.interpolate(x, draws.noise, t))
    target = path.velocity(x, z, t)
    off = torch.zeros_like(t)
    with torch.no_grad():
        first, _ = both_heads(network, z, t, w, off, clean)
        first = torch.where(known, clean, first)
        second, _ = both_heads(network, z, t, w, off, first)
        # At known positions, where no loss is taken, the target may be anything.
        shift = path.velocity(second, z, t) - path.velocity(first, z, t)
        target = torch.where(conditioned, target + (1 - 1 / w[:, None, None]) * shift, target)
    mix = draws.decode_mix[..., None]
    mixed = mix * x + (1 - mix) * objective.decode_noise_scale * draws.decode_noise
    gate = decodes[:, 0, 0].float()
    x_hat, logits = both_heads(
        network,
        torch.where(decodes, mixed, z),
        torch.where(gate > 0, 1.0, t),
        w,
        gate,
        torch.where(decodes, 0.0, torch.where(conditioned, first, clean)),
    )
    counting = batch.loss_mask & ~batch.condition_mask
    squares = (path.velocity(x_hat, z, t) - target).square().mean(-1)
    errors = F.cross_entropy(logits.transpose(1, 2), batch.input_ids, reduction="none")
    losses = torch.where(decodes[..., 0], errors, squares)
    hits = (logits.argmax(-1) == batch.input_ids) & counting & decodes[..., 0]
    return (losses * counting).sum() / counting.sum().clamp(min=1), hits.sum()


def plain_flops(network: ELFNetwork, rows: int, length: int) -> int:
    """Matrix products of `plain_loss` and its backward pass, as `elf_lightning.network.flops` counts them.

    Twice forward, and once forward and backward (twice as much), with both heads on all rows.
    """
    forward = plain_backbone_flops(network, length) + latent_head_flops(network, length)
    return rows * (5 * (forward + token_head_flops(network, length)) - untrained_flops(network, length))


class PlainStep:
    """The textbook optimizer: one parameter after the other, Newton-Schulz on the matrix itself."""

    def __init__(self, network: nn.Module, learning_rate: float) -> None:
        self.params = list(network.parameters())
        self.learning_rate = learning_rate
        self.means = [torch.zeros_like(p) for p in self.params]
        self.squares = [torch.zeros_like(p) for p in self.params]
        self.step = 0

    @torch.no_grad()
    def __call__(self) -> None:
        """One step of every parameter."""
        self.step += 1
        for p, mean, square in zip(self.params, self.means, self.squares, strict=True):
            assert p.grad is not None
            beta = 0.95 if p.ndim == 2 else 0.9
            mean.mul_(beta).add_(p.grad, alpha=1 - beta)
            update = mean * (beta / (1 - beta ** (self.step + 1)))
            update += p.grad * ((1 - beta) / (1 - beta**self.step))
            if p.ndim == 2:
                update = plain_newton_schulz(update) * sqrt(max(1.0, p.shape[0] / p.shape[1]))
            else:
                square.mul_(0.999).addcmul_(p.grad, p.grad, value=0.001)
                update /= (square / (1 - 0.999**self.step)).sqrt() + 1e-8
            p.sub_(update, alpha=self.learning_rate)


def plain_newton_schulz(matrix: Tensor) -> Tensor:
    """The iteration as the `muon-optimizer` package writes it, in float32."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = matrix.mT if tall else matrix
    x = x / (x.norm() + EPS)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        polynomial = b * gram + c * gram @ gram
        x = a * x + polynomial @ x
    return x.mT if tall else x


def plain_newton_schulz_flops(rows: int, columns: int) -> int:
    """Matrix products of `plain_newton_schulz` on one matrix."""
    short, long = sorted((rows, columns))
    return ITERATIONS * (4 * short**2 * long + 2 * short**3)


class PlainAverage:
    """The running average of a network's weights, one parameter after the other."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.weights = list(network.parameters())
        self.averages = [p.detach().clone() for p in self.weights]
        self.decay = decay

    @torch.no_grad()
    def __call__(self) -> None:
        """Take in the weights after a step."""
        for average, weight in zip(self.averages, self.weights, strict=True):
            average.mul_(self.decay).add_(weight, alpha=1 - self.decay)
