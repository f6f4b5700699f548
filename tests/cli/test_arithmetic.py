"""How a Trainer command calculates, and how its caller does afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from elf_lightning.cli import trainer
from elf_lightning.cli.trainer import arithmetic_of_a_command
from elf_lightning.errors import UserError


def denormals_are_flushed() -> bool:
    return bool(torch.tensor(torch.finfo(torch.float32).smallest_normal).mul(0.5) == 0)


@pytest.mark.parametrize("before", [False, True])
def test_denormals_are_flushed_for_a_command_alone(before: bool) -> None:
    torch.set_flush_denormal(before)
    with contextlib.suppress(UserError), arithmetic_of_a_command():
        assert denormals_are_flushed()
        raise UserError("a mistake")
    assert denormals_are_flushed() is before


def test_a_command_has_its_own_arithmetic(write_config: Callable[..., str]) -> None:
    seen: list[tuple[bool, str]] = []

    class Watched(Trainer):
        def fit(self, model: LightningModule, *args: Any, **kwargs: Any) -> None:
            seen.append((denormals_are_flushed(), torch.get_float32_matmul_precision()))

    trainer.run(["fit", "--config", write_config(), "--float32_matmul_precision", "high"], Watched)
    trainer.run(["fit", "--config", write_config()], Watched)
    assert seen == [(True, "high"), (True, "highest")]
    assert not denormals_are_flushed()
    assert torch.get_float32_matmul_precision() == "highest"
