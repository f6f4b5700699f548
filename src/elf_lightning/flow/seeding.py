"""Random streams that depend on what they are for, not on when they are drawn."""

from __future__ import annotations

import hashlib

import torch


def seeded_generator(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose stream is a function of `key` alone.

    Keys that differ in any part give unrelated streams, so that the draws of one row, step or rank never
    depend on how many others there are.

    Args:
        key: what the draws are for, such as `("noise", seed, row)`.
        device: where to draw; the CPU and a GPU give different numbers for the same key.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    # The CPU's Mersenne twister is seeded by the low 32 bits, CUDA's Philox by all of them.
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)
