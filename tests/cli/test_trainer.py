"""The state in which a Trainer command calculates, and the one that it leaves behind."""

from __future__ import annotations

import contextlib

import pytest
import torch

from elf_lightning.cli import trainer
from elf_lightning.cli.trainer import flushed_denormals
from elf_lightning.errors import UserError


def denormals_are_flushed() -> bool:
    return bool(torch.tensor(torch.finfo(torch.float32).smallest_normal).mul(0.5) == 0)


@pytest.mark.parametrize("before", [False, True])
def test_denormals_are_flushed_for_a_command_alone(before: bool) -> None:
    torch.set_flush_denormal(before)
    try:
        with contextlib.suppress(UserError), flushed_denormals():
            assert denormals_are_flushed()
            raise UserError("a mistake")
        assert denormals_are_flushed() is before
    finally:
        torch.set_flush_denormal(False)


def test_a_trainer_command_runs_with_flushed_denormals(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(trainer, "ELFCLI", lambda *_, **__: seen.append(denormals_are_flushed()))
    trainer.run(["fit"])
    assert seen == [True]
    assert not denormals_are_flushed()
