"""What a checkpoint says about itself."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from elf_lightning.checkpoints import ELFConfig
from elf_lightning.codec import TextCodec
from elf_lightning.errors import UserError
from elf_lightning.flow import LogitNormal, RectifiedPath
from elf_lightning.network import ELFNetwork, NetworkConfig
from elf_lightning.sampling import SamplingSettings

NETWORK = {"hidden_size": 16, "depth": 2, "num_heads": 2, "bottleneck_size": 8}
CONFIG = ELFConfig(network=NetworkConfig(**NETWORK), latent_size=4, vocab_size=10, max_length=8)
CODEC = TextCodec(
    tokenizer="somewhere",
    encoder={"class": "PretrainedEncoder", "name_or_path": "somewhere", "layer": None},
    latent_mean=0.0,
    latent_std=0.2,
    max_length=8,
    pad_id=0,
    eos_id=1,
)


def network(max_length: int = 8, latent_size: int = 4, **changes: Any) -> ELFNetwork:
    return ELFNetwork(NetworkConfig(**NETWORK | changes), latent_size, 10, max_length)


@pytest.mark.parametrize("changes", [{"hidden_size": 32}, {"num_heads": 4}, {"latent_size": 6}])
def test_another_network_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"contains another network: .*{next(iter(changes))}"):
        CONFIG.check_network(network(**changes))


@pytest.mark.parametrize("changes", [{"dropout": 0.1}, {"gradient_checkpointing": True}, {"max_length": 16}])
def test_settings_that_shape_no_weights_may_differ(changes: dict[str, Any]) -> None:
    CONFIG.check_network(network(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "path": RectifiedPath(noise_scale=1.5),
            "times": LogitNormal(mean=0.0),
            "sampling": SamplingSettings(times=[0.0, 0.5, 1.0]),
            "codec": CODEC,
            "step": 7,
        },
    ],
)
def test_plain_values_give_the_config_back(changes: dict[str, Any]) -> None:
    config = replace(CONFIG, **changes)
    assert ELFConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_codec_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match=r"codec.eos_id 10, which does not fit a network of 4 latent ch"):
        replace(CONFIG, codec=replace(CODEC, eos_id=10))


def test_impossible_sampling_settings_are_refused() -> None:
    values = CONFIG.to_dict() | {"sampling": {"steps": 0}}
    with pytest.raises(UserError, match="steps is 0"):
        ELFConfig.from_dict(values)


def test_default_sampling_is_the_models_own_or_the_published_of_its_task() -> None:
    own = SamplingSettings(steps=5)
    assert replace(CONFIG, sampling=own).default_sampling == own
    assert replace(CONFIG, codec=CODEC).default_sampling == CONFIG.default_sampling == SamplingSettings()
    conditional = replace(CONFIG, codec=replace(CODEC, max_condition_length=4))
    assert conditional.default_sampling == SamplingSettings.text_to_text()
