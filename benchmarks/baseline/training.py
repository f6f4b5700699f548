"""A training step without fast paths: loss and optimizer.

As in the published code, every sequence goes through every forward pass and both heads, and masks choose
afterwards; all logits are in memory at once; Newton-Schulz takes one matrix after the other.
"""

from __future__ import annotations

from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.baseline.network import both_heads
from benchmarks.batches import RandomBatches
from benchmarks.measure import counted_flops
from benchmarks.sizes import Size
from elf_lightning.batch import LatentBatch
from elf_lightning.network import ELFNetwork
from elf_lightning.objectives import Draws, ELFObjective, StepKey
from elf_lightning.optim.newton_schulz import COEFFICIENTS, EPS, ITERATIONS


def baseline_loss(
    objective: ELFObjective, network: ELFNetwork, batch: LatentBatch, draws: Draws
) -> tuple[Tensor, Tensor]:
    """The loss of `objective(network, batch, draws)` and its number of correct tokens, both ()."""
    path, number = objective.path, torch.arange(len(batch), device=draws.t.device)
    decodes = (number < draws.num_decode)[:, None, None]
    conditioned = ~decodes & (number < draws.num_decode + draws.num_self_cond)[:, None, None]
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
        # The target at condition positions does not matter: they have no loss.
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
    loss_mask = batch.loss_mask & ~batch.condition_mask
    squares = (path.velocity(x_hat, z, t) - target).square().mean(-1)
    errors = F.cross_entropy(logits.transpose(1, 2), batch.input_ids, reduction="none")
    losses = torch.where(decodes[..., 0], errors, squares)
    correct = (logits.argmax(-1) == batch.input_ids) & loss_mask & decodes[..., 0]
    return (losses * loss_mask).sum() / loss_mask.sum().clamp(min=1), correct.sum()


def baseline_step_flops(size: Size, batch_size: int) -> int:
    """FLOPs of `baseline_loss` and its backward pass, counted on one sequence without computing anything."""
    batch = RandomBatches(size, "cpu")(1)
    draws = size.objective.draw(batch.latents.shape, StepKey(0, 0, 0), torch.device("cpu")).with_counts(0, 1)
    with FakeTensorMode(allow_non_fake_inputs=True):
        network = size.network()

        def step() -> None:
            loss, _ = baseline_loss(size.objective, network, batch, draws)
            loss.backward()  # type: ignore[no-untyped-call]

        return batch_size * counted_flops(step)


class BaselineOptimizer:
    """The optimizer of the paper, one parameter after the other, Newton-Schulz on the matrix itself."""

    def __init__(self, network: nn.Module, learning_rate: float) -> None:
        self.params = list(network.parameters())
        self.learning_rate = learning_rate
        self.means = [torch.zeros_like(p) for p in self.params]
        self.squares = [torch.zeros_like(p) for p in self.params]
        self.steps = 0

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter."""
        self.steps += 1
        for p, mean, square in zip(self.params, self.means, self.squares, strict=True):
            assert p.grad is not None
            beta = 0.95 if p.ndim == 2 else 0.9
            mean.mul_(beta).add_(p.grad, alpha=1 - beta)
            update = mean * (beta / (1 - beta ** (self.steps + 1)))
            update += p.grad * ((1 - beta) / (1 - beta**self.steps))
            if p.ndim == 2:
                update = newton_schulz(update) * sqrt(max(1.0, p.shape[0] / p.shape[1]))
            else:
                square.mul_(0.999).addcmul_(p.grad, p.grad, value=0.001)
                update /= (square / (1 - 0.999**self.steps)).sqrt() + 1e-8
            p.sub_(update, alpha=self.learning_rate)


def newton_schulz(matrix: Tensor) -> Tensor:
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
