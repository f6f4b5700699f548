"""Progressive distillation against a recorded step, and against targets that are known."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.host_waits import HostWaits
from torch import Tensor
from torch.testing import assert_close

from elf_lightning.batch import LatentBatch
from elf_lightning.checkpoints.official import from_official, official_name, to_official
from elf_lightning.errors import UserError
from elf_lightning.flow import KnownLatents, RectifiedPath
from elf_lightning.network import ELFNetwork, NetworkConfig
from elf_lightning.objectives import DistillationDraws, ProgressiveDistillation, StepKey

CPU, ROWS, LENGTH, SIZE = torch.device("cpu"), 8, 6, 16


def recorded_step(values: Any) -> tuple[Tensor, LatentBatch, DistillationDraws]:
    """The order of the sequences by mode, and the recorded batch and draws in it."""
    decode = values["draw/decoder_rows"].bool()
    self_cond = values["draw/use_self_cond"].bool() & ~decode
    order = torch.argsort(torch.where(decode, 0, torch.where(self_cond, 1, 2)), stable=True)
    attention = values["in/attention_mask"].bool()
    nothing = torch.zeros_like(attention)
    batch = LatentBatch(
        input_ids=values["in/input_ids"],
        attention_mask=attention,
        condition_mask=nothing,
        loss_mask=attention,
        label_drop=nothing[:, 0],
        latents=values["in/x0"],
    ).map(lambda tensor: tensor[order])
    draws = DistillationDraws(
        t=values["draw/student_t"][order],
        noise=values["draw/noise_unit"][order],
        guidance=values["draw/self_cond_cfg_scale"][order],
        decode_mix=values["draw/decoder_lambda"][order],
        decode_noise=values["draw/decoder_noise_unit"][order],
        num_decode=int(decode.sum()),
        num_self_cond=int(self_cond.sum()),
        inner_times=values["draw/teacher_substep_t"][order],
    )
    return order, batch, draws


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_golden_distill_step(
    golden: Callable[[str], Any], golden_network: ELFNetwork, compiled: bool
) -> None:
    values = golden("distill_step")
    settings = values.settings
    student, teacher = copy.deepcopy(golden_network), copy.deepcopy(golden_network)
    student.load_state_dict(from_official(values.group("student")))
    if compiled:
        torch.compiler.reset()
        student.compile(backend="aot_eager")
        teacher.compile(backend="aot_eager")
    objective = ProgressiveDistillation(
        path=RectifiedPath(float(settings["noise_scale"]), float(settings["t_eps"])),
        decode_noise_scale=float(settings["decoder_noise_scale"]),
        teacher=teacher,
        step_size=float(settings["step_size"]),
        teacher_steps=int(settings["teacher_steps"]),
    )
    order, batch, draws = recorded_step(values)
    denoise = order[draws.num_decode :]
    z, times, self_cond, target = objective.targets(student, known(batch), draws)
    for result, name in ((z, "z_t_s"), (times, "sub_step_times"), (target, "pd_target")):
        assert_close(result, values[f"out/{name}"][denoise], atol=1e-5, rtol=1e-4)
    assert_close(self_cond, values["out/sc_half"][denoise], atol=1e-5, rtol=1e-4)

    losses = objective(student, batch, draws)
    losses.total.backward()
    for value, name in ((losses.total, "loss"), (losses.denoise, "l2_loss"), (losses.decode, "ce_loss")):
        assert_close(value, values[f"out/{name}"].squeeze(), atol=1e-5, rtol=1e-4)
    recorded = values.group("grad")
    grads = {name: p.grad for name, p in student.named_parameters() if p.grad is not None}
    assert {official_name(name) for name in grads} == recorded.keys()
    for name, grad in to_official(grads).items():
        assert_close(
            grad, recorded[name], atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert all(parameter.grad is None for parameter in teacher.parameters())


class Recorded:
    """A teacher that notes how many sequences each call has, and what they are conditioned on."""

    def __init__(self, estimate: Callable[[Tensor], Tensor]) -> None:
        self.estimate = estimate
        self.calls: list[tuple[int, Tensor]] = []

    def denoise(self, z: Tensor, t: Tensor, guidance: Tensor, self_cond: Tensor) -> Tensor:
        self.calls.append((len(z), self_cond))
        return self.estimate(z)


def tiny_network(seed: int = 0) -> ELFNetwork:
    shape = NetworkConfig(hidden_size=32, depth=2, num_heads=2, bottleneck_size=8)
    generator = torch.Generator().manual_seed(seed)
    network = ELFNetwork(shape, SIZE, 50, LENGTH, generator=generator)
    torch.nn.init.normal_(network.latent_head.linear.weight, std=0.1, generator=generator)
    return network


def tiny_batch(condition: int = 0) -> LatentBatch:
    condition_mask = torch.zeros(ROWS, LENGTH, dtype=torch.bool)
    condition_mask[:, :condition] = True
    return LatentBatch(
        input_ids=torch.randint(50, (ROWS, LENGTH)),
        attention_mask=torch.ones(ROWS, LENGTH, dtype=torch.bool),
        condition_mask=condition_mask,
        loss_mask=~condition_mask,
        label_drop=torch.arange(ROWS) % 3 == 0,
        latents=torch.randn(ROWS, LENGTH, SIZE),
    )


def known(batch: LatentBatch) -> KnownLatents:
    return KnownLatents(batch.latents, batch.condition_mask)


def drawn(objective: ProgressiveDistillation, decode: int, self_cond: int) -> DistillationDraws:
    draws = objective.draw((ROWS, LENGTH, SIZE), StepKey(0, 0, 0), CPU)
    return draws.with_counts(decode, self_cond)


def targets(objective: ProgressiveDistillation, batch: LatentBatch, draws: DistillationDraws) -> list[Tensor]:
    return [*objective.targets(objective.teacher, known(batch), draws)]


@pytest.mark.parametrize("step_size", [0.25, 1.0])
def test_one_step_of_the_teacher_is_its_direct_estimate(step_size: float) -> None:
    teacher, batch = tiny_network(), tiny_batch()
    objective = ProgressiveDistillation(teacher=teacher, step_size=step_size, teacher_steps=1)
    draws = drawn(objective, 2, 3)
    z, times, self_cond, target = targets(objective, batch, draws)
    assert torch.equal(target, teacher.denoise(z, times[:, 0], draws.guidance[2:], self_cond))


@pytest.mark.parametrize(("step_size", "steps"), [(0.0625, 4), (0.25, 16), (1.0, 64)])
def test_the_target_of_a_straight_line_is_its_end(step_size: float, steps: int) -> None:
    end, batch = torch.randn(LENGTH, SIZE), tiny_batch(condition=2)
    teacher: Any = Recorded(lambda z: end.expand_as(z))
    # As small as that, the bound of 1 - t does not bend the line near its end.
    path = RectifiedPath(t_eps=1e-6)
    objective = ProgressiveDistillation(path=path, teacher=teacher, step_size=step_size, teacher_steps=steps)
    z, times, _, target = targets(objective, batch, drawn(objective, 0, 4))
    assert_close(target[:, 2:], end[2:].expand(ROWS, -1, -1), atol=1e-4, rtol=1e-4)
    # The condition stays clean, and so does its target.
    assert torch.equal(z[:, :2], batch.latents[:, :2])
    assert torch.equal(target[:, :2], batch.latents[:, :2])
    assert_close(times[:, -1] - times[:, 0], torch.full((ROWS,), step_size))
    assert (times.diff(dim=1) >= 0).all()


def test_a_student_on_the_line_has_no_loss_and_no_gradient_of_its_latents() -> None:
    student, batch = tiny_network(), tiny_batch()
    torch.nn.init.zeros_(student.latent_head.linear.weight)
    torch.nn.init.ones_(student.latent_head.linear.bias)
    teacher: Any = Recorded(torch.ones_like)
    objective = ProgressiveDistillation(path=RectifiedPath(t_eps=1e-6), teacher=teacher, step_size=0.25)
    losses = objective(student, batch, drawn(objective, 0, 4))
    assert losses.total < 1e-8
    assert losses.denoise_count == ROWS


@pytest.mark.parametrize(("decode", "self_cond"), [(0, 0), (2, 3), (ROWS, 0)])
def test_the_teacher_runs_on_denoise_sequences_alone(decode: int, self_cond: int) -> None:
    teacher: Any = Recorded(torch.sin)
    objective = ProgressiveDistillation(teacher=teacher, teacher_steps=3)
    _, _, given, _ = targets(objective, tiny_batch(), drawn(objective, decode, self_cond))
    denoise = ROWS - decode
    extra = [self_cond] if self_cond else []
    assert [rows for rows, _ in teacher.calls] == extra + [denoise] * 3 * (denoise > 0)
    if denoise:
        assert torch.equal(teacher.calls[len(extra)][1], given)
        assert (given[:self_cond] != 0).all()
        assert (given[self_cond:] == 0).all()


@pytest.mark.parametrize("decode", [0, 3, ROWS])
def test_every_parameter_of_the_student_has_a_gradient_and_none_of_the_teacher(decode: int) -> None:
    student, teacher = tiny_network(), tiny_network(1)
    objective = ProgressiveDistillation(teacher=teacher)
    objective(student, tiny_batch(), drawn(objective, decode, 0)).total.backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_the_loss_is_a_mean_over_sequences_whatever_their_lengths() -> None:
    student, batch = tiny_network(), tiny_batch()
    batch.loss_mask[0, 1:] = False
    objective = ProgressiveDistillation(teacher=tiny_network(1))
    draws = drawn(objective, 4, 2)
    losses = objective(student, batch, draws)
    assert_close(losses.total, (losses.denoise + losses.decode) / 2)
    alone = batch.map(lambda value: value[[0] * ROWS])
    first = type(draws)(
        **{name: value[[0] * ROWS] for name, value in vars(draws).items() if isinstance(value, Tensor)},
        num_decode=ROWS,
        num_self_cond=0,
    )
    without = LatentBatch(**vars(batch) | {"loss_mask": batch.loss_mask & (torch.arange(ROWS) > 0)[:, None]})
    difference = losses.decode_sum - objective(student, without, draws).decode_sum
    assert_close(difference, objective(student, alone, first).decode)


def test_a_dropped_condition_cannot_be_seen() -> None:
    student, batch = tiny_network(), tiny_batch(condition=2)
    objective = ProgressiveDistillation(teacher=tiny_network(1))
    draws = drawn(objective, 2, 3)
    before = objective(student, batch, draws).total
    batch.latents[batch.condition_mask & batch.label_drop[:, None]] += 1
    assert torch.equal(objective(student, batch, draws).total, before)
    batch.latents[batch.condition_mask] += 1
    assert not torch.equal(objective(student, batch, draws).total, before)


def test_validation_measures_all_sequences_in_both_modes() -> None:
    objective = ProgressiveDistillation(teacher=tiny_network(1))
    losses = objective.evaluate(tiny_network(), tiny_batch(), drawn(objective, 0, 0))
    assert losses.denoise_count == losses.decode_count == ROWS


def test_a_step_asks_the_device_for_nothing() -> None:
    student, batch = tiny_network(), tiny_batch()
    objective = ProgressiveDistillation(teacher=tiny_network(1))
    draws = drawn(objective, 2, 3)
    with HostWaits() as waits:
        objective(student, batch, draws).total.backward()
    assert not waits.seen


def test_equal_keys_equal_draws_and_ranks_differ() -> None:
    objective = ProgressiveDistillation(teacher=tiny_network(), teacher_steps=5)
    keys = [StepKey(1, 2, 3, rank) for rank in (0, 0, 1)]
    one, same, other = (objective.draw((ROWS, LENGTH, SIZE), key, CPU).inner_times for key in keys)
    assert one.shape == (ROWS, 4)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    "wrong", [{"step_size": 0.0}, {"step_size": 1.5}, {"step_size": float("nan")}, {"teacher_steps": 0}]
)
def test_impossible_settings_are_refused_in_one_line(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(UserError, match=rf"^model\.{name} is .*; it must be .*") as error:
        ProgressiveDistillation(teacher=tiny_network(), **wrong)
    assert "\n" not in str(error.value)
