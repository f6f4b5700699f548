"""Random generators that are functions of what they are for, so that nothing has to be saved or replayed."""

from __future__ import annotations

import hashlib

import torch


def seeded_generator(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator on `device` that depends on `key` alone.

    Keys that differ anywhere give unrelated streams. The streams of different devices differ.

    Args:
        key: what the draws are for, such as (seed, epoch, batch, rank).
        device: where the draws will be made.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)
