"""Progressive distillation: one step of a student does several steps of its teacher.

As published with ELF (arXiv 2605.10938, appendix B, and its official code).
"""

from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from elf_lightning.batch import LatentBatch
from elf_lightning.errors import UserError
from elf_lightning.flow import expand_like, seeded_generator
from elf_lightning.network import ELFNetwork
from elf_lightning.objectives.base import Draws, Losses, StepKey
from elf_lightning.objectives.flow_matching import ELFObjective
from elf_lightning.objectives.token_loss import token_cross_entropy

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

    A loss is the mean over its sequence's counted tokens, and the total is the mean over sequences. The sums
    and counts of `Losses` are those of sequences, accordingly.

    Attributes:
        teacher: a frozen network in evaluation mode; it runs on denoise sequences alone.
        step_size: span D of a student's step; 1/N for a student of N steps.
        teacher_steps: number K of the teacher's Euler steps in that span.

    Raises:
        UserError: for a step size outside (0, 1], less than one step of the teacher, and as `ELFObjective`.
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
        generator = seeded_generator("teacher steps", key.seed, key.epoch, key.batch, key.rank, device=device)
        inner_times = self.times.sample(shape[0], self.teacher_steps - 1, generator=generator)
        return DistillationDraws(**vars(super().draw(shape, key, device)), inner_times=inner_times)

    def __call__(
        self, network: ELFNetwork, batch: LatentBatch, draws: Draws, unknown_id: int | None = None
    ) -> Losses:
        """See `Objective.__call__`; `network` is the student, and `draws` are `DistillationDraws`."""
        assert isinstance(draws, DistillationDraws)
        x, condition = self._clean(batch)
        first = draws.num_decode
        z, times, self_cond, target = self.targets(network, x, condition, draws)
        hidden = self._hidden(network, x, z, times[:, 0], self_cond, draws)
        mask = (batch.loss_mask & ~batch.condition_mask).float()
        mask = mask / mask.sum(1, keepdim=True).clamp(min=1)
        # Each head on its own sequences; an empty slice still reaches every parameter, as DDP needs.
        errors = (network.latent_head(hidden[first:]) - target).square().mean(-1)
        denoise_sum = (errors * mask[first:]).sum()
        decode_sum, decode_correct = token_cross_entropy(
            network, hidden[:first], batch.input_ids[:first], mask[:first], unknown_id
        )
        return Losses(
            total=(denoise_sum + decode_sum) / len(x),
            denoise_sum=denoise_sum,
            denoise_count=denoise_sum.new_full((), len(z)),
            decode_sum=decode_sum,
            decode_count=denoise_sum.new_full((), first),
            decode_correct=decode_correct,
        )

    @torch.no_grad()
    def targets(
        self, network: ELFNetwork, x: Tensor, condition: Tensor, draws: DistillationDraws
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the teacher shows the student, for the P denoise sequences.

        The student's step that ends where the teacher's K steps end has the estimate
        `x* = z + (1 - t) / D * (z_end - z)`.

        Args:
            network: the student, for objectives that feed its own estimate back.
            x: (B, S, C) clean latents.
            condition: (B, S, 1), True at condition positions, which stay clean.
            draws: the random numbers of the step.

        Returns:
            The student's noised latents (P, S, C), the times (P, K + 1) of the teacher's steps, which begin
            with the student's, the self-conditioning (P, S, C) of both, and the targets (P, S, C).
        """
        first, count = draws.num_decode, draws.num_self_cond
        x, condition, w = x[first:], condition[first:], draws.guidance[first:]
        start = draws.t[first:, None] * max(1 - self.step_size, 1e-6)
        inner = start + self.step_size * draws.inner_times[first:].sort(dim=1).values
        times = torch.cat([start, inner, start + self.step_size], dim=1)

        def estimate(z: Tensor, t: Tensor, self_cond: Tensor) -> Tensor:
            x_hat = self.teacher.denoise(z, t, w[: len(z)], self_cond)
            return torch.where(condition[: len(z)], x[: len(z)], x_hat)

        begin = torch.where(condition, x, self.path.interpolate(x, draws.noise[first:], start[:, 0]))
        self_cond = x * condition
        if count:
            own = estimate(begin[:count], start[:count, 0], self_cond[:count])
            self_cond = torch.cat([own, self_cond[count:]])
        if not len(x):
            return begin, times, self_cond, begin
        z, x_hat = begin, self_cond
        for t, t_next in pairwise(times.unbind(1)):
            x_hat = estimate(z, t, x_hat)
            z = z + expand_like(t_next - t, z) * self.path.velocity(x_hat, z, t)
        if self.teacher_steps == 1 or self.step_size < SMALLEST_SPAN:
            return begin, times, self_cond, x_hat
        return (
            begin,
            times,
            self_cond,
            begin + expand_like((1 - start[:, 0]) / self.step_size, z) * (z - begin),
        )
