"""Random generators as functions of their purpose, so that no generator state has to be saved."""

import hashlib

import torch


def seeded_generator(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A new generator on `device` that depends on `key` alone, for example (seed, epoch, batch, rank).

    Different keys give unrelated streams, as do different kinds of devices.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)
