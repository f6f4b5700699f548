"""Fixtures shared by all tests: the golden values and a deterministic, offline world."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from elf_lightning.checkpoints.official import from_official
from elf_lightning.network import ELFNetwork, NetworkShape

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


class Golden(dict[str, Tensor]):
    """The arrays of one golden file, with the settings it was recorded under."""

    def __init__(self, path: Path) -> None:
        with safe_open(path, "pt") as file:  # type: ignore[no-untyped-call]
            super().__init__({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            self.settings: dict[str, str] = file.metadata() or {}

    def group(self, prefix: str) -> dict[str, Tensor]:
        """The arrays named `prefix/…`, without the prefix."""
        start = f"{prefix}/"
        return {name.removeprefix(start): value for name, value in self.items() if name.startswith(start)}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-dir",
        type=Path,
        default=Path(__file__).parent / "golden",
        help="folder of golden values to replay, in the form of tests/golden",
    )


@pytest.fixture(scope="session")
def golden_dir(request: pytest.FixtureRequest) -> Path:
    return Path(request.config.getoption("--golden-dir"))


@pytest.fixture(scope="session")
def golden(golden_dir: Path) -> Callable[[str], Golden]:
    return lambda stem: Golden(golden_dir / f"{stem}.safetensors")


@pytest.fixture(scope="session")
def golden_config(golden_dir: Path) -> dict[str, Any]:
    """The recorded network's sizes."""
    return dict(json.loads((golden_dir / "config.json").read_text())["network"])


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def golden_network(golden: Callable[[str], Golden], golden_config: dict[str, Any]) -> ELFNetwork:
    """The recorded network with its recorded weights, in float32 on the CPU."""
    return network_from_golden(golden_config, golden("network").group("params"))


def network_from_golden(config: dict[str, Any], official_weights: dict[str, Tensor]) -> ELFNetwork:
    """A network of the recorded sizes with the given weights under their official names."""
    shape = NetworkShape(
        hidden_size=config["hidden_size"],
        depth=config["depth"],
        num_heads=config["num_heads"],
        bottleneck_size=config["bottleneck_dim"],
        mlp_ratio=config["mlp_ratio"],
        num_time_tokens=config["num_time_tokens"],
        num_guidance_tokens=config["num_self_cond_cfg_tokens"],
        num_mode_tokens=config["num_model_mode_tokens"],
    )
    network = ELFNetwork(shape, config["text_encoder_dim"], config["vocab_size"], config["max_length"])
    network.load_state_dict(from_official(official_weights))
    return network
