"""Which differences between the codecs of a checkpoint and of the data matter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from elf_lightning.codec import TextCodec
from elf_lightning.errors import UserError

ENCODER = {"class": "PretrainedEncoder", "name_or_path": "/models/small", "layer": None}
CODEC = TextCodec(
    tokenizer="/models/small",
    encoder=ENCODER,
    latent_mean=[0.5, -1.0],
    latent_std=0.2,
    max_length=8,
    pad_id=0,
    eos_id=1,
    unknown_id=2,
)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokenizer": "/models/large"}, "data.encoder: tokenizer /models/small (here /models/large)"),
        ({"encoder": ENCODER | {"name_or_path": "large"}}, "name_or_path /models/small (here large)"),
        ({"encoder": ENCODER | {"layer": 2}}, "data.encoder: encoder layer None (here 2)"),
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
def test_data_with_another_meaning_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as refused:
        CODEC.check_compatible(replace(CODEC, **changes))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"max_length": 16},
        {"latent_std": 0.2005, "latent_mean": [0.5005, -1.0015]},
        {"tokenizer": "/elsewhere/small", "encoder": ENCODER | {"name_or_path": "owner/small"}},
        {"encoder": ENCODER | {"dtype": "float32"}},
    ],
)
def test_data_with_the_same_meaning_pass(changes: dict[str, Any]) -> None:
    CODEC.check_compatible(replace(CODEC, **changes))
