"""A small model in every format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from elf_lightning.checkpoints import ELFConfig, ModelBundle
from elf_lightning.codec import TextCodec
from elf_lightning.network import NetworkConfig
from elf_lightning.sampling import SamplingSettings


@pytest.fixture
def bundle() -> ModelBundle:
    codec = TextCodec(
        tokenizer="somewhere",
        encoder={"class": "PretrainedEncoder", "name_or_path": "somewhere", "layer": None},
        kept_ids=list(range(5, 25)),
        latent_mean=[0.5] * 8,
        latent_std=0.2,
        max_length=6,
        pad_id=0,
        eos_id=1,
        unknown_id=2,
    )
    config = ELFConfig(
        network=NetworkConfig(hidden_size=16, depth=2, num_heads=2, bottleneck_size=4),
        latent_size=8,
        vocab_size=20,
        max_length=6,
        codec=codec,
        sampling=SamplingSettings(steps=7, solver="heun"),
        step=120,
    )
    return ModelBundle(config, config.build_network().state_dict())


@pytest.fixture
def save_lightning(bundle: ModelBundle) -> Callable[..., Path]:
    """Writes a checkpoint as `ELFModule` with an `EMA` callback does."""

    def save(path: Path, **changes: Any) -> Path:
        averaged = {f"network.{name}": value for name, value in bundle.weights.items()}
        content = {
            "state_dict": averaged,
            "current_model_state": {name: value + 1 for name, value in averaged.items()},
            "elf": bundle.config.to_dict(),
            "optimizer_states": [{"state": {0: {"momentum": torch.zeros(3)}}}],
            "global_step": 120,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content | changes, path)
        return path

    return save
