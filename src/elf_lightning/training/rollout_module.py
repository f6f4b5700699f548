"""A generator that learns where whole rollouts of a frozen teacher end (arXiv 2610.06648)."""

from dataclasses import replace
from typing import Any

from elf_lightning.network.flops import training_step_flops
from elf_lightning.objectives import RolloutDistillation
from elf_lightning.training.distillation_module import DistillationModule


class RolloutDistillationModule(DistillationModule):
    """Rollout distillation, an alternative to `DistillationModule`, with `elf fit`.

    Whatever `sampling` says, the student's solver is `feedback`, in `student_steps` steps.

    Args:
        teacher: a checkpoint in any format; its averaged weights are used.
        teacher_steps: the teacher's steps from noise to data.
        student_steps: the student's steps.
        settings: the arguments of `TrainingModule`.
    """

    objective: RolloutDistillation

    def __init__(
        self, *args: Any, teacher: str, teacher_steps: int = 32, student_steps: int = 4, **settings: Any
    ) -> None:
        super().__init__(*args, teacher=teacher, step_size=1.0, teacher_steps=teacher_steps, **settings)
        self.objective = RolloutDistillation(**vars(self.objective), student_steps=student_steps)
        self.sampling = replace(
            self.sampling, solver="feedback", solver_options={}, steps=student_steps, times=None
        )

    def training_flops(self, batch_size: int, length: int) -> float:
        """FLOPs of a micro-batch, the forward passes of the teacher and of the feedback included."""
        steps = self.objective.student_steps
        decode, self_cond = self.objective.mean_counts(batch_size)
        passes = (batch_size - decode) * self.objective.teacher_steps
        passes += self_cond * steps / 2 * (steps > 1)
        return training_step_flops(self.network, batch_size, length, decode, passes / 2)
