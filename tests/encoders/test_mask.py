"""Who sees whom inside the frozen encoder."""

from __future__ import annotations

import torch
from torch import Tensor

from elf_lightning.encoders import additive_mask, encoder_mask


def masks(*rows: str) -> tuple[Tensor, Tensor]:
    """Attention and condition mask of rows such as `cct.`: condition, target, padding."""
    attention = torch.tensor([[position != "." for position in row] for row in rows])
    condition = torch.tensor([[position == "c" for position in row] for row in rows])
    return attention, condition


def seen(mask: Tensor) -> list[str]:
    """Each position's view, as `1` and `0`."""
    return ["".join("1" if allowed else "0" for allowed in row) for row in mask.tolist()]


def test_condition_sees_itself_and_target_sees_every_valid_position() -> None:
    mask = encoder_mask(*masks("cct."))
    assert seen(mask[0]) == ["1100", "1100", "1110", "1110"]


def test_the_target_of_a_dropped_sequence_does_not_see_the_condition() -> None:
    mask = encoder_mask(*masks("cct.", "cct."), torch.tensor([True, False]))
    assert seen(mask[0]) == ["1100", "1100", "0010", "0010"]
    assert seen(mask[1]) == ["1100", "1100", "1110", "1110"]


def test_unconditional_sequences_see_every_valid_position() -> None:
    mask = encoder_mask(*masks("ttt.", "t..."), torch.tensor([False, True]))
    assert seen(mask[0]) == ["1110"] * 4
    assert seen(mask[1]) == ["1000"] * 4


def test_additive_mask_is_zero_or_the_lowest_finite_number() -> None:
    mask = torch.tensor([[True, False]])
    for dtype in (torch.float32, torch.bfloat16):
        assert additive_mask(mask, dtype).tolist() == [[0.0, torch.finfo(dtype).min]]
        assert additive_mask(mask, dtype).isfinite().all()
