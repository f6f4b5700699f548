"""Examples -> padded batch, as recorded and by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from elf_lightning.batch import make_loss_mask
from elf_lightning.data import Collate, Example
from elf_lightning.encoders import encoder_mask


def rows_of(examples: dict[str, torch.Tensor]) -> list[Example]:
    """The golden examples, `<number>/<column>`."""
    numbers = sorted({int(name.split("/")[0]) for name in examples})
    return [
        Example(
            examples[f"{number}/input_ids"].numpy(),
            condition.numpy()
            if (condition := examples.get(f"{number}/condition_input_ids")) is not None
            else None,
        )
        for number in numbers
    ]


def settings_of(text: str) -> dict[str, int]:
    return {name: int(value) for name, value in (item.split("=") for item in text.split())}


@pytest.mark.parametrize(
    ("lengths", "condition", "full"), [((4, 6), 0, True), ((4, 3), 0, False), ((4, 4), 1, False)]
)
def test_a_batch_is_full_without_condition_and_padding(
    lengths: tuple[int, ...], condition: int, full: bool
) -> None:
    given = np.ones(condition, dtype=np.int64) if condition else None
    examples = [Example(np.ones(length, dtype=np.int64), given) for length in lengths]
    batch = Collate(max_length=4, fill_id=0, max_condition_length=2)(examples)
    assert batch.full == full
    assert batch.unconditional == (condition == 0)


@pytest.mark.parametrize("kind", ["uncond", "cond"])
def test_golden_collate(golden: Callable[[str], Any], kind: str) -> None:
    recorded = golden("collate")
    settings = settings_of(recorded.settings[kind])
    collate = Collate(
        settings["max_length"],
        fill_id=settings["pad_id"],
        max_condition_length=settings.get("max_input_length"),
    )
    batch = collate(rows_of(recorded.group(f"{kind}/in")))
    expected = recorded.group(f"{kind}/out")
    assert torch.equal(batch.input_ids, expected["input_ids"])
    assert torch.equal(batch.attention_mask.float(), expected["attention_mask"])
    assert torch.equal(batch.condition_mask.float(), expected["cond_seq_mask"])
    mask = encoder_mask(batch.attention_mask, batch.condition_mask, batch.label_drop)
    assert torch.equal(mask.float(), expected["encoder_attention_mask"])


def row(target: int, condition: int | None = None) -> Example:
    """A target of so many 7s after a condition of so many 8s."""
    return Example(np.full(target, 7), None if condition is None else np.full(condition, 8))


def test_pad_mode_pad_counts_real_target_tokens() -> None:
    batch = Collate(6, fill_id=0, max_condition_length=2)([row(2, 1)])
    assert batch.input_ids.tolist() == [[8, 7, 7, 0, 0, 0]]
    assert batch.loss_mask.tolist() == [[False, True, True, False, False, False]]


def test_pad_mode_eos_counts_all_but_the_condition() -> None:
    batch = Collate(6, fill_id=1, pad_mode="eos", max_condition_length=2)([row(2, 3)])
    assert batch.input_ids.tolist() == [[8, 8, 7, 7, 1, 1]]
    assert batch.attention_mask.tolist() == [[True] * 4 + [False] * 2]
    assert batch.loss_mask.tolist() == [[False] * 2 + [True] * 4]


def test_the_loss_mask_never_holds_a_condition() -> None:
    attention = torch.tensor([[True, True, False]])
    condition = torch.tensor([[True, False, False]])
    assert make_loss_mask(attention, condition, "pad").tolist() == [[False, True, False]]
    assert make_loss_mask(attention, condition, "eos").tolist() == [[False, True, True]]


@pytest.mark.parametrize(("longest", "width"), [(1, 4), (4, 4), (5, 8), (9, 10)])
def test_a_width_step_keeps_batches_narrow(longest: int, width: int) -> None:
    collate = Collate(10, fill_id=0, width_step=4)
    assert collate([row(longest), row(1)]).input_ids.shape == (2, width)
