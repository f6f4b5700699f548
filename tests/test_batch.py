"""Records move as Lightning moves them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device

from elf_lightning.batch import TokenBatch


@pytest.mark.parametrize(("device", "waits"), [("cuda", False), ("cpu", True)])
def test_only_copies_to_a_gpu_do_not_wait(device: str, waits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[bool] = []

    def to(tensor: torch.Tensor, device: Any, non_blocking: bool) -> torch.Tensor:
        moves.append(non_blocking)
        return tensor

    on = torch.ones(2, 3, dtype=torch.bool)
    batch = TokenBatch(on.long(), on, ~on, on, on[:, 0])
    monkeypatch.setattr(torch.Tensor, "to", to)
    assert len(move_data_to_device(batch, torch.device(device))) == 2
    assert moves == [not waits] * 5


def test_all_tensors_are_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1)
    on = torch.zeros(2, 3, dtype=torch.int64)
    pinned = TokenBatch(on, on, on, on, on[:, 0], full=True).pin_memory()
    assert isinstance(pinned, TokenBatch)
    assert pinned.full
    tensors = [value for value in vars(pinned).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) == 5
    assert all(value.min() == value.max() == 1 for value in tensors)
