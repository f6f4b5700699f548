"""The ids that the network knows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from elf_lightning.codec.vocabulary import RestrictedVocabulary, SpecialIds, Vocabulary
from elf_lightning.encoders import read_tokenizer
from elf_lightning.errors import UserError


def test_the_full_vocabulary_changes_nothing() -> None:
    vocabulary = Vocabulary(10)
    ids = torch.tensor([[0, 9]])
    assert torch.equal(vocabulary.to_network(ids), ids)
    assert (len(vocabulary), vocabulary.network_id(7), vocabulary.unknown_id) == (10, 7, None)


def test_a_restricted_one_numbers_what_it_keeps_and_makes_the_rest_unknown() -> None:
    vocabulary = RestrictedVocabulary([1, 4, 7], tokenizer_size=9, unknown=4)
    assert vocabulary.to_network(torch.tensor([[1, 4], [7, 8]])).tolist() == [[0, 1], [2, 1]]
    assert (len(vocabulary), vocabulary.network_id(7), vocabulary.unknown_id) == (3, 2, 1)


def save_tokenizer(folder: Path, **special: str) -> str:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate([*special.values(), "a", "b"])}
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words)), **special).save_pretrained(
        folder
    )
    return str(folder)


def test_eos_is_the_eos_token_else_the_sep_token(tiny_t5: str, tiny_bert: str) -> None:
    assert SpecialIds.of(read_tokenizer(tiny_t5), "pad") == SpecialIds(eos=1, pad=0, fill=0, unknown=2)
    assert SpecialIds.of(read_tokenizer(tiny_bert), "eos") == SpecialIds(eos=3, pad=0, fill=3, unknown=1)


def test_neither_eos_nor_sep(tmp_path: Path) -> None:
    tokenizer = read_tokenizer(save_tokenizer(tmp_path, pad_token="[PAD]"))
    with pytest.raises(UserError, match="has neither an EOS nor a SEP token"):
        SpecialIds.of(tokenizer, "pad")


def test_no_pad_token(tmp_path: Path) -> None:
    tokenizer = read_tokenizer(save_tokenizer(tmp_path, eos_token="</s>"))
    with pytest.raises(UserError, match=r"has no pad token; set data.pad_mode to eos"):
        SpecialIds.of(tokenizer, "pad")
    assert SpecialIds.of(tokenizer, "eos").pad == SpecialIds.of(tokenizer, "eos").eos
