"""Official names and orientation, there and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from elf_lightning.checkpoints.official import from_official, to_official
from elf_lightning.network import ELFNetwork


def test_golden_network_names_round_trip(golden: Callable[[str], Any], golden_network: ELFNetwork) -> None:
    official = golden("network").group("params")
    ours = from_official(official)
    assert ours.keys() == golden_network.state_dict().keys()
    back = to_official(ours)
    assert back.keys() == official.keys()
    assert all(torch.equal(back[name], value) for name, value in official.items())
