"""The module that holds a generator and the teacher of its rollouts."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.training.test_distillation_module import SHAPE, SIZES, saved

from elf_lightning.errors import UserError
from elf_lightning.objectives import ELFObjective, RolloutDistillation
from elf_lightning.sampling import SamplingSettings
from elf_lightning.training import RolloutDistillationModule


def student(folder: Path, **settings: object) -> RolloutDistillationModule:
    teacher = saved(folder / "teacher.ckpt")
    return RolloutDistillationModule(**SIZES, eos_id=1, pad_id=0, network=SHAPE, teacher=teacher, **settings)


def test_the_objective_is_a_rollout_with_all_settings(tmp_path: Path) -> None:
    module = student(tmp_path, objective=ELFObjective(decode_noise_scale=3), teacher_steps=5, student_steps=2)
    objective = module.objective
    assert type(objective) is RolloutDistillation
    assert (objective.teacher_steps, objective.student_steps, objective.decode_noise_scale) == (5, 2, 3)
    assert not any(parameter.requires_grad for parameter in objective.teacher.parameters())


def test_the_student_samples_by_feedback_whatever_the_configuration_says(tmp_path: Path) -> None:
    given = SamplingSettings(steps=64, solver="multistep", solver_options={"max_growth": 3}, guidance=5)
    module = student(tmp_path, sampling=given, student_steps=2)
    assert module.sampling == SamplingSettings(steps=2, solver="feedback", guidance=5)
    assert module.config.sampling == module.sampling


def test_the_flops_are_those_of_the_rollout_and_of_the_feedback(tmp_path: Path) -> None:
    def flops(teacher_steps: int, student_steps: int) -> float:
        module = student(tmp_path, teacher_steps=teacher_steps, student_steps=student_steps)
        return module.training_flops(10, 8)

    rollout, feedback = flops(3, 1) - flops(2, 1), flops(1, 2) - flops(1, 1)
    assert flops(1, 4) - flops(1, 2) == pytest.approx(feedback)
    assert rollout == pytest.approx(2 * feedback, rel=0.01)  # 8 sequences, and 4 fed back once


def test_no_step_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^model\.student_steps is 0; it must be at least 1$"):
        student(tmp_path, student_steps=0)
