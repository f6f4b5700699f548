"""Which ids the network knows, and the way back to text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from elf_lightning.data import Detokenizer, ELFDataModule
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


class TestDataModule:
    def test_the_network_knows_what_occurs_in_training(self, make_data: Callable[..., ELFDataModule]) -> None:
        full, data = make_data(), make_data(restrict_vocabulary=True)
        assert data.vocab_size < full.vocab_size == len(full.tokenizer)
        kept = data.tokenizer.convert_ids_to_tokens(data.vocabulary.kept_ids)
        assert {"[PAD]", "[UNK]", "[SEP]", "beginning", "light"} <= set(kept)
        assert not {"evening", "firmament"} & set(kept)
        assert (kept[data.pad_id], kept[data.eos_id], kept[data.unknown_id]) == ("[PAD]", "[SEP]", "[UNK]")

    def test_training_has_no_unknown_pieces_and_held_out_rows_may(
        self, make_data: Callable[..., ELFDataModule]
    ) -> None:
        data = make_data(restrict_vocabulary=True)
        data.prepare_data()
        for batch in data.train_dataloader():
            assert not (data.on_after_batch_transfer(batch, 0).input_ids == data.unknown_id).any()
        unknown = [
            (data.on_after_batch_transfer(batch, 0).input_ids == data.unknown_id).any()
            for batch in data.val_dataloader()
        ]
        assert any(unknown)

    def test_the_encoder_sees_the_tokenizers_ids(self, make_data: Callable[..., ELFDataModule]) -> None:
        full, restricted = make_data(), make_data(restrict_vocabulary=True)
        full.prepare_data()
        first, second = (
            data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0) for data in (full, restricted)
        )
        assert torch.equal(first.latents, second.latents)
        assert not torch.equal(first.input_ids, second.input_ids)

    def test_text_comes_back(self, make_data: Callable[..., ELFDataModule]) -> None:
        data = make_data(restrict_vocabulary=True, packing="truncate", max_length=20)
        data.prepare_data()
        detokenize = Detokenizer.from_state(data.decoding_state())
        texts = [
            text
            for batch in data.train_dataloader()
            for text in detokenize(data.on_after_batch_transfer(batch, 0).input_ids)
        ]
        assert "in the beginning god created the heaven and the earth" in texts


def test_a_tokenizer_without_an_unknown_token_cannot_be_restricted(
    make_data: Callable[..., ELFDataModule], tmp_path: Path, tiny_bert: str
) -> None:
    folder = tmp_path / "model"
    save_tokenizer(folder, pad_token="[PAD]", eos_token="</s>")
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((Path(tiny_bert) / name).read_bytes())
    from elf_lightning.encoders import PretrainedEncoder

    with pytest.raises(UserError, match=r"data.restrict_vocabulary: .* has no unknown token"):
        make_data(encoder=PretrainedEncoder(str(folder)), restrict_vocabulary=True)
