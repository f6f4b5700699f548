"""Which differences between a checkpoint and a run matter."""

from __future__ import annotations

from typing import Any

import pytest

from elf_lightning.errors import UserError
from elf_lightning.network import ELFNetwork, NetworkConfig
from elf_lightning.training.compatibility import check_decoding, check_network, network_description

SHAPE = {"hidden_size": 16, "depth": 2, "num_heads": 2, "bottleneck_size": 8}
DECODING: dict[str, Any] = {
    "tokenizer": "/models/small",
    "encoder": {"class": "PretrainedEncoder", "name_or_path": "/models/small", "layer": None},
    "kept_ids": None,
    "latent_mean": [0.5, -1.0],
    "latent_std": 0.2,
    "max_length": 8,
    "max_condition_length": None,
    "pad_mode": "pad",
    "pad_id": 0,
    "eos_id": 1,
    "unknown_id": 2,
}


def encoder(**changes: Any) -> dict[str, Any]:
    return DECODING["encoder"] | changes


def network(max_length: int = 8, latent_size: int = 4, **shape: Any) -> ELFNetwork:
    return ELFNetwork(NetworkConfig(**SHAPE | shape), latent_size, 10, max_length)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tokenizer": "/models/large"}, "data.encoder: tokenizer /models/small (here /models/large)"),
        ({"encoder": encoder(name_or_path="large")}, "encoder name_or_path /models/small (here large)"),
        ({"encoder": encoder(layer=2)}, "encoder layer None (here 2)"),
        ({"encoder": {"class": "TokenTableEncoder"}}, "encoder class PretrainedEncoder (here Token"),
        ({"kept_ids": [0, 1, 2, 5]}, "data.restrict_vocabulary: kept_ids None (here 4 values, 0, 1, 2, …)"),
        ({"pad_mode": "eos"}, "data.pad_mode: pad_mode pad (here eos)"),
        ({"eos_id": 7}, "eos_id 1 (here 7)"),
        ({"pad_id": 7}, "pad_id 0 (here 7)"),
        ({"unknown_id": None}, "unknown_id 2 (here None)"),
        ({"max_condition_length": 4}, "data.max_condition_length: max_condition_length None (here 4)"),
        ({"latent_mean": [0.5, -1.1]}, "data.latent_mean: latent_mean 2 values, 0.5, -1, … (here 2 values"),
        ({"latent_mean": 0.5}, "data.latent_mean"),
        ({"latent_std": 0.21}, "data.latent_std: latent_std 0.2 (here 0.21)"),
    ],
)
def test_other_data_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as refused:
        check_decoding(DECODING, DECODING | changes)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"max_length": 16},
        {"latent_std": 0.2005, "latent_mean": [0.5005, -1.0015]},
        {"tokenizer": "/elsewhere/small", "encoder": encoder(name_or_path="owner/small")},
        {"encoder": encoder(dtype="float32")},
    ],
)
def test_what_means_the_same_passes(changes: dict[str, Any]) -> None:
    check_decoding(DECODING, DECODING | changes)


@pytest.mark.parametrize("changes", [{"hidden_size": 32}, {"num_heads": 4}, {"latent_size": 6}])
def test_another_network_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(changes))):
        check_network(network_description(network()), network(**changes))


@pytest.mark.parametrize("changes", [{"dropout": 0.1}, {"gradient_checkpointing": True}, {"max_length": 16}])
def test_what_shapes_no_weights_passes(changes: dict[str, Any]) -> None:
    check_network(network_description(network()), network(**changes))
