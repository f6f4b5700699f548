"""The most likely tokens, without all logits at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from elf_lightning.network import projections
from elf_lightning.network.projections import TokenHead

VOCABULARY = 300


@pytest.mark.parametrize("positions", [0, 1, 7, 10**6])
def test_the_most_likely_tokens_are_those_of_all_logits(
    positions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projections, "CHUNK_LOGITS", positions * VOCABULARY)
    head, hidden = TokenHead(32, 16, VOCABULARY), torch.randn(5, 12, 32)
    assert torch.equal(head.most_likely(hidden), head(hidden).argmax(-1))


def test_memory_is_bounded_however_many_rows(
    monkeypatch: pytest.MonkeyPatch, largest_tensor: Callable[..., Any]
) -> None:
    monkeypatch.setattr(projections, "CHUNK_LOGITS", 40 * VOCABULARY)
    head, hidden = TokenHead(32, 16, VOCABULARY), torch.randn(20, 12, 32)
    with largest_tensor() as largest:
        head.most_likely(hidden)
    assert largest.numbers == 40 * VOCABULARY < hidden[..., 0].numel() * VOCABULARY
