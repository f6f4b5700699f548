"""A small model whose texts are words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from elf_lightning import ELF
from elf_lightning.checkpoints import ELFConfig, ModelBundle
from elf_lightning.codec import TextCodec
from elf_lightning.errors import UserError
from elf_lightning.network import ELFNetwork, NetworkConfig
from elf_lightning.sampling import SamplingSettings

SPECIAL = ["[PAD]", "[UNK]", "[SEP]"]
WORDS = ["the", "a", "cat", "dog", "mat", "sat", "on", "under", "and", "lay", ".", "boat", "whale"]
LENGTH, SIZE = 12, 16
KEPT = [*range(len(SPECIAL) + len(WORDS) - 1)]  # all but the whale


@pytest.fixture(scope="session")
def save_encoder() -> Callable[..., str]:
    """Saves a tiny encoder of some size and its tokenizer in a folder."""

    def save(folder: Path, size: int = SIZE) -> str:
        vocabulary = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "sep_token": "[SEP]"}
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=size,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=LENGTH,
        )
        BertModel(config, add_pooling_layer=False).save_pretrained(folder)
        return str(folder)

    return save


@pytest.fixture(scope="session")
def encoder_folder(save_encoder: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def make_codec(encoder_folder: str) -> Callable[..., TextCodec]:
    """Makes a codec with a restricted vocabulary, changed as given."""

    def make(**changes: Any) -> TextCodec:
        values = {
            "tokenizer": encoder_folder,
            "encoder": {"class": "PretrainedEncoder", "name_or_path": encoder_folder, "layer": None},
            "kept_ids": KEPT,
            "latent_mean": [0.0] * SIZE,
            "latent_std": 0.5,
            "max_length": LENGTH,
            "pad_id": 0,
            "eos_id": 2,
            "unknown_id": 1,
        }
        return TextCodec(**values | changes)

    return make


@pytest.fixture
def make_bundle(make_codec: Callable[..., TextCodec]) -> Callable[..., ModelBundle]:
    """Makes a bundle with such a codec, and weights that give various texts without training."""

    def make(**codec: Any) -> ModelBundle:
        config = ELFConfig(
            network=NetworkConfig(hidden_size=32, depth=2, num_heads=2, bottleneck_size=8),
            latent_size=SIZE,
            vocab_size=len(KEPT),
            max_length=LENGTH,
            codec=make_codec(**codec),
            sampling=SamplingSettings(steps=4),
            step=10,
        )
        generator = torch.Generator().manual_seed(1)
        network = ELFNetwork(config.network, SIZE, len(KEPT), LENGTH, generator)
        torch.nn.init.normal_(network.latent_head.linear.weight, std=0.3, generator=generator)
        torch.nn.init.normal_(network.token_head.unembed.weight, std=0.5, generator=generator)
        return ModelBundle(config, network.state_dict())

    return make


@pytest.fixture
def model(make_bundle: Callable[..., ModelBundle]) -> ELF:
    return ELF(make_bundle(), "cpu")


@pytest.fixture
def conditional(make_bundle: Callable[..., ModelBundle]) -> ELF:
    return ELF(make_bundle(max_condition_length=4), "cpu")


@pytest.fixture
def complaint() -> Callable[[Callable[[], Any]], str]:
    """The one line of the `UserError` that a call raises."""

    def raised(call: Callable[[], Any]) -> str:
        with pytest.raises(UserError) as error:
            call()
        assert "\n" not in str(error.value)
        return str(error.value)

    return raised
