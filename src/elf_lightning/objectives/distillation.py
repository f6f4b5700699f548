"""Distillation: one step of a student does several steps of its teacher, or a whole rollout."""

from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import ceil

import torch
from torch import Tensor

from elf_lightning.batch import LatentBatch
from elf_lightning.errors import UserError
from elf_lightning.flow import KnownLatents, expand_like
from elf_lightning.network import ELFNetwork
from elf_lightning.objectives.base import Draws, Losses, StepKey
from elf_lightning.objectives.flow_matching import (
    ELFObjective,
    conditions,
    masked_losses,
    squared_errors,
)

SMALLEST_SPAN = 1e-3
"""Below it, the target is the teacher's last estimate: a division by the span would amplify rounding."""


@dataclass(frozen=True)
class DistillationDraws(Draws):
    """The random numbers of a step; `t` places a student's step, before it is scaled to leave room for it.

    Attributes:
        inner_times: (B, K - 1) where the teacher's steps meet, as fractions of the student's step, unsorted.
    """

    inner_times: Tensor


@dataclass(frozen=True, kw_only=True)
class ProgressiveDistillation(ELFObjective):
    """Denoise sequences learn where a frozen teacher arrives in several steps; the others decode as before.

    As published with ELF (arXiv 2605.10938, appendix B, and its official code).
    A loss is the mean over its sequence's counted tokens, and the total is the mean over sequences. The sums
    and counts of `Losses` are those of sequences, accordingly.

    Attributes:
        teacher: a frozen network in evaluation mode; it runs on denoise sequences alone.
        step_size: span D of a student's step, in (0, 1]; 1/N for a student of N steps.
        teacher_steps: number K of the teacher's Euler steps in that span, at least 1.
    """

    teacher: ELFNetwork = field(repr=False)
    step_size: float = 1 / 16
    teacher_steps: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.step_size <= 1:
            raise UserError(f"model.step_size is {self.step_size}; it must be above 0 and at most 1")
        if self.teacher_steps < 1:
            raise UserError(f"model.teacher_steps is {self.teacher_steps}; it must be at least 1")

    def draw(
        self, shape: torch.Size | tuple[int, int, int], key: StepKey, device: torch.device
    ) -> DistillationDraws:
        """See `Objective.draw`."""
        generator = key.generator(device, "teacher steps")
        inner_times = self.times.sample(shape[0], self.teacher_steps - 1, generator=generator)
        return DistillationDraws(**vars(super().draw(shape, key, device)), inner_times=inner_times)

    def mean_counts(self, num_sequences: int) -> tuple[float, float]:  # noqa: D102
        decode, self_cond = super().mean_counts(num_sequences)
        return decode, ((num_sequences - decode) * self.teacher_steps + self_cond) / 2

    def __call__(
        self, network: ELFNetwork, batch: LatentBatch, draws: Draws, unknown_id: int | None = None
    ) -> Losses:
        """See `Objective.__call__`; `network` is the student, and `draws` are `DistillationDraws`."""
        assert isinstance(draws, DistillationDraws)
        known = conditions(batch)
        first = draws.num_decode
        z, times, self_cond, target = self.targets(network, known, draws)
        hidden = self._hidden(network, known.latents, z, times[:, 0], self_cond, draws)
        decode, denoise = torch.split(hidden, [first, len(z)])
        mask = (batch.loss_mask & ~batch.condition_mask).float()
        mask = mask / mask.sum(1, keepdim=True).clamp(min=1)
        errors = squared_errors(network.latent_head(denoise), target)
        losses = masked_losses(network, decode, errors, batch.input_ids, mask, unknown_id)
        return replace(
            losses,
            total=(losses.denoise_sum + losses.decode_sum) / len(batch),
            denoise_count=mask.new_full((), len(z)),
            decode_count=mask.new_full((), first),
        )

    @torch.no_grad()
    def targets(
        self, network: ELFNetwork, known: KnownLatents, draws: DistillationDraws
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the teacher shows the student, for the P denoise sequences.

        The student's step that ends where the teacher's K steps end has the estimate
        `x* = z + (1 - t) / D * (z_end - z)`. Of all clean latents, those of the conditions, which are
        `known`, stay clean. Objectives that feed its own estimate back call the student `network`.

        Returns:
            The student's noised latents (P, S, C), the times (P, K + 1) of the teacher's steps, which begin
            with the student's, the self-conditioning (P, S, C) of both, and the targets (P, S, C).
        """
        first, count = draws.num_decode, draws.num_self_cond
        known, w = known[first:], draws.guidance[first:]
        start = draws.t[first:, None] * max(1 - self.step_size, 1e-6)
        inner = start + self.step_size * draws.inner_times[first:].sort(dim=1).values
        times = torch.cat([start, inner, start + self.step_size], dim=1)
        begin = known.restore(self.path.interpolate(known.latents, draws.noise[first:], start[:, 0]))
        self_cond = known.alone
        if count:
            own = estimate(self.teacher, begin[:count], start[:count, 0], w, self_cond, known)
            self_cond = torch.cat([own, self_cond[count:]])
        z, x_hat = self.rollout(begin, times, w, self_cond, known)
        if self.teacher_steps > 1 and self.step_size >= SMALLEST_SPAN:
            x_hat = begin + expand_like((1 - start[:, 0]) / self.step_size, z) * (z - begin)
        return begin, times, self_cond, x_hat

    def rollout(
        self, z: Tensor, times: Tensor, w: Tensor, x_hat: Tensor, known: KnownLatents
    ) -> tuple[Tensor, Tensor]:
        """Where the teacher's Euler steps from `z` end, and its last estimate; first, `x_hat` is fed back."""
        if len(z):
            for t, t_next in pairwise(times.unbind(1)):
                x_hat = estimate(self.teacher, z, t, w, x_hat, known)
                z = z + expand_like(t_next - t, z) * self.path.velocity(x_hat, z, t)
        return z, x_hat


@dataclass(frozen=True, kw_only=True)
class RolloutDistillation(ProgressiveDistillation):
    """Denoise sequences learn the teacher's last estimate in K Euler steps from the same noise.

    Iterative rollout distillation (IRD) of arXiv 2610.06648, with the decode sequences of ELF.

    The student is always at t=0, where it sees noise alone. In N steps it calls itself N times with the same
    noise, each time conditioned on its own last estimate (sampler `feedback`). In training, self-conditioning
    sequences see an estimate that was fed back 1 to N - 1 times, evenly over the batch, and the others none.
    Losses are those of `ProgressiveDistillation`.

    Attributes:
        step_size: 1, from noise to data.
        student_steps: number N of the student's steps, at least 1.
    """

    step_size: float = 1.0
    teacher_steps: int = 32
    student_steps: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step_size != 1:
            raise UserError(f"model.step_size is {self.step_size}; it must be 1 for a whole rollout")
        if self.student_steps < 1:
            raise UserError(f"model.student_steps is {self.student_steps}; it must be at least 1")

    def mean_counts(self, num_sequences: int) -> tuple[float, float]:  # noqa: D102
        decode, self_cond = ELFObjective.mean_counts(self, num_sequences)
        feedback = self_cond * self.student_steps / 2 if self.student_steps > 1 else 0
        return decode, ((num_sequences - decode) * self.teacher_steps + feedback) / 2

    @torch.no_grad()
    def targets(
        self, network: ELFNetwork, known: KnownLatents, draws: DistillationDraws
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See `ProgressiveDistillation.targets`; the self-conditioning is the student's alone."""
        first, count = draws.num_decode, draws.num_self_cond
        known, w = known[first:], draws.guidance[first:]
        inner = draws.inner_times[first:].sort(dim=1).values
        times = torch.cat([torch.zeros_like(w)[:, None], inner, torch.ones_like(w)[:, None]], dim=1)
        begin = known.restore(self.path.noise_scale * draws.noise[first:])
        own = clean = known.alone
        for passes in range(1, self.student_steps):
            if rows := ceil(count * (self.student_steps - passes) / (self.student_steps - 1)):
                x_hat = estimate(network, begin[:rows], times[:rows, 0], w, own, known)
                own = torch.cat([x_hat, own[rows:]])
        _, x_hat = self.rollout(begin, times, w, clean, known)
        return begin, times, own, x_hat


def estimate(
    network: ELFNetwork, z: Tensor, t: Tensor, w: Tensor, self_cond: Tensor, known: KnownLatents
) -> Tensor:
    """`x_hat` of the first sequences, (rows, S, C) as `z`, with what is `known` in its place."""
    rows = slice(len(z))
    return known[rows].restore(network.denoise(z, t, w[rows], self_cond[rows]))
