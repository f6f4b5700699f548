"""A small model as training leaves it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoTokenizer

from elf_lightning import ELF
from elf_lightning.checkpoints import ELFConfig, ModelBundle
from elf_lightning.codec import TextCodec
from elf_lightning.network import ELFNetwork, NetworkConfig
from elf_lightning.sampling import SamplingSettings

LENGTH, SIZE = 12, 16
WORDS = "in the beginning god created heaven and earth now was without form darkness upon face of deep"


def save_checkpoint(bundle: ModelBundle, path: Path) -> Path:
    """Save a checkpoint as Lightning does; the last weights differ from the averaged ones."""
    averaged = {f"network.{name}": value for name, value in bundle.weights.items()}
    last = {name: value.flip(0) for name, value in averaged.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"state_dict": averaged, "current_model_state": last, "elf": bundle.config.to_dict()}
    torch.save(content, path)
    return path


@pytest.fixture
def bundle(tiny_bert: str) -> ModelBundle:
    """A network that gives various texts without training."""
    vocab_size = len(AutoTokenizer.from_pretrained(tiny_bert))
    codec = TextCodec(
        tokenizer=tiny_bert,
        encoder={"class": "PretrainedEncoder", "name_or_path": tiny_bert, "layer": None},
        latent_mean=0.0,
        latent_std=0.5,
        max_length=LENGTH,
        pad_id=0,
        eos_id=3,
    )
    config = ELFConfig(
        network=NetworkConfig(hidden_size=32, depth=2, num_heads=2, bottleneck_size=8),
        latent_size=SIZE,
        vocab_size=vocab_size,
        max_length=LENGTH,
        codec=codec,
        sampling=SamplingSettings(steps=4),
        step=10,
    )
    generator = torch.Generator().manual_seed(1)
    network = ELFNetwork(config.network, SIZE, vocab_size, LENGTH, generator)
    torch.nn.init.normal_(network.latent_head.linear.weight, std=0.3, generator=generator)
    torch.nn.init.normal_(network.token_head.unembed.weight, std=0.5, generator=generator)
    return ModelBundle(config, network.state_dict())


@pytest.fixture
def save_run(bundle: ModelBundle, tmp_path: Path) -> Callable[..., str]:
    """Writes a run's folder with the model in it, its codec changed as given."""

    def save(name: str = "run", **changes: Any) -> str:
        assert bundle.config.codec is not None
        config = replace(bundle.config, codec=replace(bundle.config.codec, **changes))
        save_checkpoint(replace(bundle, config=config), tmp_path / name / "checkpoints" / "last.ckpt")
        return str(tmp_path / name)

    return save


@pytest.fixture
def run_folder(save_run: Callable[..., str]) -> str:
    """A run's folder with the model in it."""
    return save_run()


@pytest.fixture
def shipped(bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small model as the installed package `elf_books`; works in an empty folder."""
    package = tmp_path / "site" / "elf_books"
    ELF(bundle).save_pretrained(package / "model")
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "site")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return package / "model"


@pytest.fixture
def write_config(
    tmp_path: Path, tiny_run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Writes a small, complete configuration, changed at dotted names, and works in its folder."""
    monkeypatch.chdir(tmp_path)
    words = WORDS.split()
    lines = [" ".join(words[(i * 7 + j * 3) % len(words)] for j in range(30)) for i in range(40)]
    (tmp_path / "lines.txt").write_text("\n".join(lines), encoding="utf-8")

    def write(**changes: Any) -> str:
        own: dict[str, Any] = {
            "name": "tiny",
            "data.source.init_args.validation_fraction": 0.2,
            "data.num_predict_samples": 5,
            "model.optimizer": {"class_path": "MuonSettings", "init_args": {"base_learning_rate": 0.5}},
            "model.sampling.steps": 3,
            "trainer.max_steps": 6,
            "trainer.val_check_interval": 3,
        }
        given = {name.replace("__", "."): value for name, value in changes.items()}
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(tiny_run(own | given)), encoding="utf-8")
        return str(path)

    return write
