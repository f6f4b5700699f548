"""Known latents: in their places, alone, and of some sequences."""

from __future__ import annotations

import pytest
import torch

from elf_lightning.flow import KnownLatents


@pytest.mark.parametrize("empty", [False, True])
def test_some_sequences_keep_their_known_latents(empty: bool) -> None:
    latents, z = torch.randn(2, 4, 3, 2)
    mask = (torch.arange(3) < 2).expand(4, 3) & ~torch.tensor(empty)
    known = KnownLatents(latents, mask, empty)[1:3]
    place = mask[1:3, :, None]
    assert torch.equal(known.alone, latents[1:3] * place)
    restored = known.restore(z[1:3])
    assert torch.equal(restored, torch.where(place, latents[1:3], z[1:3]))
    assert known.empty == empty
