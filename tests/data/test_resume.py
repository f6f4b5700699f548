from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from elf_lightning.data.resume import Position, ResumableDataModule


@pytest.mark.parametrize(
    ("batches", "position"),
    [
        (0, (0, 0)),
        (2, (0, 0)),
        (3, (0, 3)),
        (5, (0, 3)),
        (9, (0, 9)),
        (10, (1, 0)),
        (11, (1, 0)),
        (26, (2, 6)),
    ],
)
def test_training_goes_on_after_the_last_whole_step(batches: int, position: tuple[int, int]) -> None:
    progress = SimpleNamespace(total=SimpleNamespace(processed=batches))
    trainer: Any = SimpleNamespace(
        num_training_batches=10,
        accumulate_grad_batches=3,
        world_size=2,
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
    )
    data = ResumableDataModule(batch_size=4, global_batch_size=None, order_depends_on_batches=False)
    data.trainer = trainer
    assert data.reached() == Position(*position, examples_per_batch=8)
