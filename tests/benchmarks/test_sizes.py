"""The sizes are those of the configurations."""

from __future__ import annotations

from pathlib import Path

import yaml
from benchmarks.sizes import SIZES

from elf_lightning.network import NetworkConfig
from elf_lightning.objectives import ELFObjective

CONF = Path(__file__).parents[2] / "conf"


def test_bible_is_that_of_the_configuration() -> None:
    settings, size = yaml.safe_load((CONF / "bible.yaml").read_text()), SIZES["bible"]
    assert NetworkConfig(**settings["model"]["network"]) == size.config
    assert ELFObjective(**settings["model"]["objective"]) == size.objective
    assert settings["data"]["max_length"] == size.max_length
    assert settings["data"]["batch_size"] == size.batch_size
