"""Streams keyed by what they are for."""

from __future__ import annotations

import torch

from elf_lightning.flow import seeded_generator


def draws(*key: int | str) -> list[float]:
    return torch.randn(4, generator=seeded_generator(*key)).tolist()


def test_same_key_gives_the_same_stream() -> None:
    assert draws("noise", 3, 5) == draws("noise", 3, 5)


def test_recorded_stream_stays() -> None:
    """A changed keying would silently change every text that a seed stands for."""
    assert seeded_generator("noise", 3, 5).initial_seed() == 523239829522900219


def test_every_part_of_the_key_counts() -> None:
    keys = [("noise", 3, 5), ("noise", 5, 3), ("times", 3, 5), ("noise", 3), ("noise", 35), ("noise", "3", 5)]
    assert len({tuple(draws(*key)) for key in keys}) == len(keys)


def test_global_stream_is_left_alone() -> None:
    before = torch.get_rng_state()
    draws("noise", 1)
    assert torch.equal(before, torch.get_rng_state())
