"""The module that holds a student and its teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from elf_lightning.checkpoints import ELFConfig
from elf_lightning.errors import UserError
from elf_lightning.network import NetworkConfig
from elf_lightning.training import DistillationModule, ELFModule

SHAPE = NetworkConfig(hidden_size=16, depth=1, num_heads=2, bottleneck_size=8)
SIZES: dict[str, Any] = {"latent_size": 6, "vocab_size": 11, "max_length": 8}


def saved(path: Path, shape: NetworkConfig = SHAPE) -> str:
    config = ELFConfig(shape, **SIZES)
    weights = {f"network.{name}": value for name, value in config.build_network().state_dict().items()}
    torch.save({"state_dict": weights, "elf": config.to_dict()}, path)
    return str(path)


def student(teacher: str, **settings: Any) -> DistillationModule:
    return DistillationModule(**SIZES, eos_id=1, pad_id=0, network=SHAPE, teacher=teacher, **settings)


def test_the_student_starts_as_its_teacher_who_is_frozen_and_no_part_of_it(tmp_path: Path) -> None:
    module = student(saved(tmp_path / "teacher.ckpt"))
    plain = ELFModule(**SIZES, eos_id=1, pad_id=0, network=SHAPE)
    assert module.state_dict().keys() == plain.state_dict().keys()
    assert len([*module.parameters()]) == len([*plain.parameters()])
    teacher = module.objective.teacher
    for name, weight in teacher.state_dict().items():
        assert torch.equal(module.network.state_dict()[name], weight)
    module.train()
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not {*teacher.parameters()} & {*module.network.parameters()}


def test_a_later_round_starts_from_other_weights(tmp_path: Path) -> None:
    teacher, before = saved(tmp_path / "teacher.ckpt"), saved(tmp_path / "before.ckpt")
    module = student(teacher, init_from=before)
    weights = torch.load(before)["state_dict"]
    for name, weight in module.network.state_dict().items():
        assert torch.equal(weight, weights[f"network.{name}"])


def test_the_flops_are_those_of_the_teacher_too(tmp_path: Path) -> None:
    teacher = saved(tmp_path / "teacher.ckpt")
    flops = [student(teacher, teacher_steps=k).training_flops(10, 8) for k in (1, 2, 5)]
    assert flops[2] - flops[1] == pytest.approx(3 * (flops[1] - flops[0]))
    assert flops[1] > flops[0] > 0


@pytest.mark.parametrize("other", [replace(SHAPE, hidden_size=32), replace(SHAPE, self_conditioning=False)])
def test_a_teacher_of_another_size_is_one_clear_line(other: NetworkConfig, tmp_path: Path) -> None:
    teacher = saved(tmp_path / "teacher.ckpt", other)
    with pytest.raises(UserError, match=rf"^model.teacher {teacher}: .* another network: .*here") as error:
        student(teacher)
    assert "\n" not in str(error.value)
