from __future__ import annotations

import pytest
import torch

from elf_lightning.errors import UserError
from elf_lightning.metrics import DecodeAccuracy

RIGHT = torch.tensor([[1, 2, 3], [0, 0, 7]])
PREDICTED = torch.tensor([[1, 9, 3], [0, 5, 7]])
MASK = torch.tensor([[True, True, False], [True, True, True]])


def accuracy(unknown_id: int | None = None) -> float:
    metric = DecodeAccuracy(unknown_id)
    for row in range(2):
        metric.update(PREDICTED[row : row + 1], RIGHT[row : row + 1], MASK[row : row + 1])
    return metric.compute().item()


def test_accuracy_is_over_the_positions_of_the_mask() -> None:
    assert accuracy() == pytest.approx(3 / 5)


def test_unknown_tokens_count_as_wrong() -> None:
    assert accuracy(unknown_id=0) == pytest.approx(2 / 5)


def test_a_batch_may_be_empty() -> None:
    metric = DecodeAccuracy()
    metric.update(PREDICTED[:0], RIGHT[:0], MASK[:0])
    with pytest.raises(UserError, match="DecodeAccuracy has no positions to count"):
        metric.compute()
    metric.update(RIGHT, RIGHT, MASK)
    assert metric.compute() == 1


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(UserError, match=r"\(2, 3\), correct ids \(2, 3\) and mask \(1, 3\) differ in shape"):
        DecodeAccuracy().update(PREDICTED, RIGHT, MASK[:1])
