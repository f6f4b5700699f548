from __future__ import annotations

import pytest

from elf_lightning.data.resume import Position


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
    reached = Position.after_last_step(batches, batches_in_epoch=10, accumulation=3, examples_per_batch=8)
    assert reached == Position(*position, examples_per_batch=8)
