"""Checkpoints of the first version, which called the codec `decoding`, still load.

`stored/` holds one tiny model in every format, as that version wrote it: `lightning.ckpt` by the Trainer with
an `EMA` callback (without the optimizer's state), `hub` by `ELF.save_pretrained` after measuring repetition,
`checkpoint_3` by `save_official`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from elf_lightning import ELF
from elf_lightning.checkpoints import ELFConfig, load_model
from elf_lightning.codec import TextCodec
from elf_lightning.flow import LogitNormal, RectifiedPath
from elf_lightning.network import NetworkConfig
from elf_lightning.sampling import SamplingSettings

STORED = Path(__file__).parent / "stored"
AVERAGED = "3d69c82ff62e175c1ba73b3316102d645adc37ca9eaf6e25f082a3d0b78b0b23"
LAST = "6d9dbc985e3fc89fbda7932c549254b561502cc82bc1e19815ca7e2384aaa704"
WORDS = {"<unk>", "in", "the", "beginning", "god", "created", "heaven", "and", "earth"}
CODEC = TextCodec(
    tokenizer="tiny-t5",
    encoder={"class": "PretrainedEncoder", "name_or_path": "tiny-t5", "layer": None},
    latent_mean=[-0.636013388633728, 0.37566977739334106, -0.327381432056427, 0.6113457083702087],
    latent_std=0.8621826061550112,
    max_length=8,
    pad_id=0,
    eos_id=1,
    kept_ids=[*range(11)],  # the tokenizer has 13
    unknown_id=2,
)
CONFIG = ELFConfig(
    network=NetworkConfig(hidden_size=4, depth=1, num_heads=2, bottleneck_size=2),
    latent_size=4,
    vocab_size=11,
    max_length=8,
    path=RectifiedPath(noise_scale=2.0, t_eps=0.05),
    times=LogitNormal(mean=-1.5, std=0.8),
    sampling=SamplingSettings(steps=7, solver="heun", guidance=2.0),
    codec=CODEC,
    step=3,
)


def digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of names and values, as the first version read them."""
    sha = hashlib.sha256()
    for name in sorted(weights):
        sha.update(name.encode())
        sha.update(weights[name].contiguous().numpy().tobytes())
    return sha.hexdigest()


@pytest.mark.parametrize(("averaged", "weights"), [(True, AVERAGED), (False, LAST)])
def test_lightning_checkpoint(averaged: bool, weights: str) -> None:
    path = STORED / "lightning.ckpt"
    assert "decoding" in torch.load(path, weights_only=True)["elf"], "written by the first version"
    bundle = load_model(path, averaged)
    assert bundle.config == CONFIG
    assert digest(bundle.weights) == weights


def test_hub_folder() -> None:
    assert json.loads((STORED / "hub" / "config.json").read_text())["format_version"] == 1
    bundle = load_model(STORED / "hub")
    own_tokenizer = replace(CODEC, tokenizer=str(STORED / "hub" / "tokenizer"))
    assert bundle.config == replace(CONFIG, codec=own_tokenizer)
    assert digest(bundle.weights) == AVERAGED
    direction = torch.tensor(
        [0.7529574036598206, -0.5541160702705383, 0.14997531473636627, -0.3217419981956482]
    )
    assert bundle.repetition_direction is not None
    assert bundle.repetition_direction.equal(direction)


def test_official_checkpoint() -> None:
    bundle = load_model(STORED / "checkpoint_3")
    assert bundle.config == replace(CONFIG, max_length=1024, codec=None, sampling=None)
    assert digest(bundle.weights) == AVERAGED


def test_hub_folder_generates_and_is_written_in_the_new_format(tmp_path: Path) -> None:
    model = ELF.from_pretrained(STORED / "hub", device="cpu")
    texts = model.generate(4, repetition_control=2.0)
    assert set(" ".join(texts).split()) <= WORDS
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["format_version"] == 2
    assert config["codec"]["kept_ids"] == CODEC.kept_ids
    assert "decoding" not in config
    assert ELF.from_pretrained(tmp_path, device="cpu").generate(4, repetition_control=2.0) == texts
