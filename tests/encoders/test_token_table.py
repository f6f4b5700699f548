"""The frozen table of token vectors."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModel

from elf_lightning.encoders import TokenTableEncoder
from elf_lightning.errors import UserError

IDS = torch.tensor([[4, 5, 6], [6, 5, 4]])
MASK = torch.ones(2, 3, 3, dtype=torch.bool)


def test_the_same_token_has_the_same_latent_everywhere(tiny_t5: str) -> None:
    latents = TokenTableEncoder(tiny_t5)(IDS, MASK)
    assert latents.shape == (2, 3, 16)
    assert torch.equal(latents[0], latents[1].flip(0))


def test_the_gaussian_table_is_a_function_of_its_seed(tiny_t5: str) -> None:
    first = TokenTableEncoder(tiny_t5, latent_size=64, seed=1)(IDS, MASK)
    assert torch.equal(first, TokenTableEncoder(tiny_t5, latent_size=64, seed=1)(IDS, MASK))
    assert not torch.equal(first, TokenTableEncoder(tiny_t5, latent_size=64, seed=2)(IDS, MASK))
    assert first.std() == pytest.approx(1, abs=0.2)


def test_the_pretrained_table_is_the_models(tiny_bert: str) -> None:
    expected = AutoModel.from_pretrained(tiny_bert).get_input_embeddings().weight[IDS]
    assert torch.equal(TokenTableEncoder(tiny_bert, table="pretrained")(IDS, MASK), expected)


def test_it_has_no_limit_and_nothing_to_train(tiny_bert: str) -> None:
    encoder = TokenTableEncoder(tiny_bert).load()
    assert encoder.max_length is None
    assert not list(encoder.parameters())


def test_a_size_that_contradicts_the_table_is_refused(tiny_bert: str) -> None:
    with pytest.raises(UserError, match="latent_size 8: the pretrained table"):
        TokenTableEncoder(tiny_bert, table="pretrained", latent_size=8)
