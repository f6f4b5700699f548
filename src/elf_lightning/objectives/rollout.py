"""Rollout distillation: a generator from noise alone learns where a whole rollout of its teacher ends.

Iterative rollout distillation (IRD) of arXiv 2610.06648, with the decode sequences of ELF.
"""

from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from elf_lightning.errors import UserError
from elf_lightning.network import ELFNetwork
from elf_lightning.objectives.distillation import DistillationDraws, ProgressiveDistillation, estimate


@dataclass(frozen=True, kw_only=True)
class RolloutDistillation(ProgressiveDistillation):
    """Denoise sequences learn the teacher's last estimate in K Euler steps from the same noise.

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

    @torch.no_grad()
    def targets(
        self, network: ELFNetwork, x: Tensor, condition: Tensor, draws: DistillationDraws
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See `ProgressiveDistillation.targets`; the self-conditioning is the student's alone."""
        first, count = draws.num_decode, draws.num_self_cond
        x, condition, w = x[first:], condition[first:], draws.guidance[first:]
        inner = draws.inner_times[first:].sort(dim=1).values
        times = torch.cat([torch.zeros_like(w)[:, None], inner, torch.ones_like(w)[:, None]], dim=1)
        begin = torch.where(condition, x, self.path.noise_scale * draws.noise[first:])
        own = clean = x * condition
        for passes in range(1, self.student_steps):
            if rows := ceil(count * (self.student_steps - passes) / (self.student_steps - 1)):
                x_hat = estimate(network, begin[:rows], times[:rows, 0], w, own, condition)
                own = torch.cat([x_hat, own[rows:]])
        _, x_hat = self.rollout(begin, times, w, clean, condition)
        return begin, times, own, x_hat
