"""Rollout distillation against rollouts whose end is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.host_waits import HostWaits
from tests.objectives.test_distillation import (
    CPU,
    LENGTH,
    ROWS,
    SIZE,
    Recorded,
    drawn,
    known,
    tiny_batch,
    tiny_network,
)
from torch.testing import assert_close

from elf_lightning.errors import UserError
from elf_lightning.objectives import ProgressiveDistillation, RolloutDistillation, StepKey


def test_the_target_of_a_straight_line_is_exactly_its_end() -> None:
    end, batch = torch.randn(LENGTH, SIZE), tiny_batch(condition=2)
    teacher, student = (Recorded(lambda z: end.expand_as(z)), tiny_network())
    objective = RolloutDistillation(teacher=teacher, teacher_steps=7)  # type: ignore[arg-type]
    draws = drawn(objective, 2, 3)
    z, times, _, target = objective.targets(student, known(batch), draws)
    assert torch.equal(target[:, 2:], end[2:].expand(ROWS - 2, -1, -1))
    # It starts from noise alone, but for the condition, which stays clean.
    assert torch.equal(z[:, 2:], 2 * draws.noise[2:, 2:])
    assert torch.equal(z[:, :2], batch.latents[2:, :2])
    assert torch.equal(target[:, :2], batch.latents[2:, :2])
    assert (times[:, 0] == 0).all()
    assert (times[:, -1] == 1).all()
    assert (times.diff(dim=1) >= 0).all()


def test_the_target_is_the_teachers_estimate_after_its_euler_steps() -> None:
    objective = RolloutDistillation(teacher=Recorded(torch.tanh), teacher_steps=3)  # type: ignore[arg-type]
    batch = tiny_batch()
    draws = drawn(objective, 0, 0)
    z, times, _, target = objective.targets(tiny_network(), known(batch), draws)
    for t, t_next in ((0, 1), (1, 2)):
        h, left = (times[:, t_next] - times[:, t])[:, None, None], (1 - times[:, t])[:, None, None]
        z = z + h * (torch.tanh(z) - z) / left
    assert_close(target, torch.tanh(z))


def test_the_teacher_feeds_back_its_own_estimates_and_starts_with_none() -> None:
    teacher: Any = Recorded(torch.sin)
    objective = RolloutDistillation(teacher=teacher, teacher_steps=3)
    batch = tiny_batch()
    objective.targets(tiny_network(), known(batch), drawn(objective, 2, 3))
    assert [rows for rows, _ in teacher.calls] == [ROWS - 2] * 3
    assert (teacher.calls[0][1] == 0).all()
    assert (teacher.calls[1][1] != 0).all()


@pytest.mark.parametrize(
    ("steps", "fed_back"), [(1, []), (2, [6]), (4, [6, 4, 2]), (8, [6, 6, 5, 4, 3, 2, 1])]
)
def test_self_conditioning_sequences_see_an_estimate_fed_back_up_to_one_time_less_than_the_steps(
    steps: int, fed_back: list[int]
) -> None:
    student = Recorded(torch.sin)
    objective = RolloutDistillation(teacher=tiny_network(), teacher_steps=1, student_steps=steps)
    batch = tiny_batch()
    z, _, own, _ = objective.targets(
        student,  # type: ignore[arg-type]
        known(batch),
        drawn(objective, 1, 6),
    )
    assert [rows for rows, _ in student.calls] == fed_back
    given = 6 if fed_back else 0
    assert torch.equal(own[:given], torch.sin(z[:given]))
    assert (own[given:] == 0).all()


def test_a_student_at_the_end_has_no_loss() -> None:
    student = tiny_network()
    torch.nn.init.zeros_(student.latent_head.linear.weight)
    torch.nn.init.ones_(student.latent_head.linear.bias)
    objective = RolloutDistillation(teacher=Recorded(torch.ones_like))  # type: ignore[arg-type]
    losses = objective(student, tiny_batch(), drawn(objective, 0, 4))
    assert losses.total == 0
    assert losses.denoise_count == ROWS


def test_decode_sequences_have_the_loss_and_gradients_of_progressive_distillation() -> None:
    batch, results = tiny_batch(condition=2), []
    for kind in (ProgressiveDistillation, RolloutDistillation):
        student = tiny_network()
        objective = kind(teacher=tiny_network(1), teacher_steps=3)
        losses = objective(student, batch, drawn(objective, ROWS, 0))
        losses.total.backward()
        results.append((losses.total, losses.decode, *(weight.grad for weight in student.parameters())))
    assert results[0][0] > 0
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("decode", [0, 3, ROWS])
def test_every_parameter_of_the_student_has_a_gradient_and_none_of_the_teacher(decode: int) -> None:
    student, teacher = tiny_network(), tiny_network(1)
    objective = RolloutDistillation(teacher=teacher, teacher_steps=2)
    objective(student, tiny_batch(), drawn(objective, decode, (ROWS - decode) // 2)).total.backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_loss_is_a_pure_function_of_its_draws() -> None:
    student, batch = tiny_network(), tiny_batch()
    objective = RolloutDistillation(teacher=tiny_network(1), teacher_steps=5)
    keys = [StepKey(1, 2, 3, rank) for rank in (0, 0, 1)]
    draws = [objective.draw((ROWS, LENGTH, SIZE), key, CPU) for key in keys]
    assert draws[0].inner_times.shape == (ROWS, 4)
    torch.manual_seed(1)
    one, same, other = (objective(student, batch, drawn).total for drawn in draws)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    # No more depends on the clean latents than the decode sequences.
    elsewhere = replace(batch, latents=batch.latents + 1)
    few = draws[0].with_counts(0, 4)
    assert torch.equal(objective(student, batch, few).total, objective(student, elsewhere, few).total)


def test_a_step_asks_the_device_for_nothing() -> None:
    student, batch = tiny_network(), tiny_batch()
    objective = RolloutDistillation(teacher=tiny_network(1), teacher_steps=2)
    draws = drawn(objective, 2, 3)
    with HostWaits() as waits:
        objective(student, batch, draws).total.backward()
    assert not waits.seen


@pytest.mark.parametrize("wrong", [{"step_size": 0.5}, {"student_steps": 0}, {"teacher_steps": 0}])
def test_impossible_settings_are_refused_in_one_line(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(UserError, match=rf"^model\.{name} is .*; it must be .*") as error:
        RolloutDistillation(teacher=tiny_network(), **wrong)
    assert "\n" not in str(error.value)
