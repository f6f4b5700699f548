"""Weights to begin with, from every format, and one line where they do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from elf_lightning.checkpoints import ELFConfig, ModelBundle, save_hub, save_official
from elf_lightning.codec import TextCodec
from elf_lightning.errors import UserError
from elf_lightning.network import ELFNetwork, NetworkConfig
from elf_lightning.training import ELFModule
from elf_lightning.training.warm_start import check_latents

SHAPE = NetworkConfig(hidden_size=16, depth=1, num_heads=2, bottleneck_size=4)
SIZES = {"latent_size": 6, "vocab_size": 11, "max_length": 8}
CODEC = TextCodec(
    tokenizer="somewhere",
    encoder={"class": "PretrainedEncoder", "name_or_path": "somewhere", "layer": None},
    latent_mean=[0.1, -0.2, *[0.0] * 4],
    latent_std=0.5,
    max_length=8,
    pad_id=0,
    eos_id=1,
)


@pytest.fixture
def bundle() -> ModelBundle:
    network = ELFNetwork(SHAPE, **SIZES, generator=torch.Generator().manual_seed(7))
    return ModelBundle(ELFConfig(SHAPE, **SIZES, codec=CODEC), network.state_dict())


def started_from(path: Path | str, **settings: Any) -> ELFModule:
    sizes = {**SIZES, "eos_id": 1, "pad_id": 0, "network": SHAPE, **settings}
    return ELFModule(**sizes, init_from=str(path))


def save(bundle: ModelBundle, kind: str, folder: Path) -> Path:
    if kind == "hub":
        save_hub(bundle, folder)
        return folder
    path = folder / ("checkpoint_3" if kind == "official" else "step-3.ckpt")
    if kind == "official":
        save_official(bundle, path)
    else:
        state = {f"network.{name}": value for name, value in bundle.weights.items()}
        path.parent.mkdir(exist_ok=True)
        torch.save({"state_dict": state, "elf": bundle.config.to_dict()}, path)
    return path


@pytest.mark.parametrize("kind", ["lightning", "official", "hub"])
def test_loads_weights_of_any_format(kind: str, bundle: ModelBundle, tmp_path: Path) -> None:
    module = started_from(save(bundle, kind, tmp_path / "model"))
    for name, value in module.network.state_dict().items():
        assert torch.equal(value, bundle.weights[name]), name


def test_the_sequence_length_may_differ(bundle: ModelBundle, tmp_path: Path) -> None:
    module = started_from(save(bundle, "lightning", tmp_path / "model"), max_length=20)
    assert module.network.max_length == 20


@pytest.mark.parametrize(
    "other",
    [
        {"vocab_size": 12},
        {"network": replace(SHAPE, depth=2)},
        {"network": replace(SHAPE, self_conditioning=False)},
    ],
)
def test_another_network_is_refused(other: dict[str, Any], bundle: ModelBundle, tmp_path: Path) -> None:
    path = save(bundle, "lightning", tmp_path / "model")
    with pytest.raises(
        UserError, match=r"^model.init_from .*: the weights do not fit the network: "
    ) as error:
        started_from(path, **other)
    assert "\n" not in str(error.value)


def test_a_missing_checkpoint_is_reported_in_one_line() -> None:
    with pytest.raises(UserError, match=r"^model.init_from nowhere.ckpt: checkpoint 'nowhere.ckpt' does not"):
        started_from("nowhere.ckpt")


def test_another_vocabulary_is_refused() -> None:
    with pytest.raises(UserError, match="another restricted vocabulary"):
        check_latents(CODEC, replace(CODEC, kept_ids=[0, 1, 5]))


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        ({"latent_mean": [0.11, -0.2, *[0.0] * 4]}, False),
        ({"latent_mean": [0.1, -0.25, *[0.0] * 4]}, True),
        ({"latent_mean": 0.0}, True),
        ({"latent_std": 0.51}, False),
        ({"latent_std": 0.6}, True),
    ],
)
def test_another_normalisation_is_a_warning(
    ours: dict[str, Any], expected: bool, recwarn: pytest.WarningsRecorder
) -> None:
    check_latents(CODEC, replace(CODEC, **ours))
    assert [("another normalisation" in str(warning.message)) for warning in recwarn] == [True] * expected
