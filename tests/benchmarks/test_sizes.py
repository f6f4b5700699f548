"""The sizes are those of the configurations."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from benchmarks.sizes import SIZES

from elf_lightning.network import NetworkConfig
from elf_lightning.objectives import ELFObjective

CONF = Path(__file__).parents[2] / "conf"


@pytest.mark.parametrize("name", ["bible", "books"])
def test_sizes_are_those_of_the_configurations(name: str) -> None:
    settings, size = yaml.safe_load((CONF / f"{name}.yaml").read_text()), SIZES[name]
    assert NetworkConfig(**settings["model"]["network"]) == size.config
    assert ELFObjective(**settings["model"]["objective"]) == size.objective
    assert settings["data"]["max_length"] == size.max_length
    assert settings["data"]["batch_size"] == size.batch_size
