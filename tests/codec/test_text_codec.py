"""Text to ids and back, and the codec as plain values."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from elf_lightning.batch import PromptBatch
from elf_lightning.codec import RestrictedVocabulary, TextCodec
from elf_lightning.encoders import PretrainedEncoder
from elf_lightning.errors import UserError

PAD, EOS = 0, 1
RESTRICTED = {"kept_ids": [0, 1, 2, 4], "unknown_id": 2}

MakeCodec = Callable[..., TextCodec]


def codec_of(folder: str, **changes: Any) -> TextCodec:
    """A codec whose tokenizer and encoder are in `folder`."""
    codec = TextCodec(
        tokenizer=folder,
        encoder={"class": "PretrainedEncoder", "name_or_path": folder, "layer": None},
        latent_mean=0.25,
        latent_std=0.5,
        max_length=8,
        pad_id=PAD,
        eos_id=EOS,
    )
    return replace(codec, **changes)


@pytest.fixture
def make_codec(tmp_path: Path) -> MakeCodec:
    """Makes a codec with a tokenizer of these words, which joins them by `decoder`."""

    def make(words: list[str], decoder: object, **changes: Any) -> TextCodec:
        numbered = {word: n for n, word in enumerate(["[PAD]", "[SEP]", *words])}
        tokenizer = Tokenizer(models.WordLevel(numbered, unk_token=words[0]))
        tokenizer.decoder = decoder
        PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(tmp_path)
        return codec_of(str(tmp_path), **changes)

    return make


# Ids -> text


@pytest.mark.parametrize(
    ("words", "decoder", "expected"),
    [
        (["run", "##ning", "dog"], decoders.WordPiece(), ["run", "ning", " dog"]),
        (["▁run", "ning", "▁dog"], decoders.Metaspace(), ["run", "ning", " dog"]),
        (["run", "ning", "Ġdog"], decoders.ByteLevel(), ["run", "ning", " dog"]),
    ],
)
def test_pieces_join_as_the_tokenizer_does(
    make_codec: MakeCodec, words: list[str], decoder: object, expected: list[str]
) -> None:
    codec = make_codec(words, decoder)
    assert codec.token_texts([2, 3, 4]) == expected
    assert "".join(codec.token_texts([2, 3, 4])) == codec.decode(torch.tensor([[2, 3, 4]]))[0]


def test_padding_and_eos_have_empty_texts(make_codec: MakeCodec) -> None:
    codec = make_codec(["run", "##ning", "dog"], decoders.WordPiece())
    assert codec.token_texts([2, PAD, 3, EOS, PAD]) == ["run", "", "ning", "", ""]
    assert codec.token_texts([PAD, 4]) == ["", "dog"]


def test_pieces_of_a_restricted_vocabulary(make_codec: MakeCodec) -> None:
    codec = make_codec(["run", "##ning", "dog"], decoders.WordPiece(), kept_ids=[0, 1, 4, 2], unknown_id=3)
    assert codec.token_texts([3, 2]) == ["run", " dog"]


def test_a_letter_of_two_tokens_appears_with_the_second(make_codec: MakeCodec) -> None:
    codec = make_codec(["Ã", "¤", "b"], decoders.ByteLevel())
    assert codec.token_texts([4, 2, 3, 4]) == ["b", "", "ä", "b"]


def test_the_memo_of_token_texts_is_bounded(make_codec: MakeCodec) -> None:
    codec = make_codec(["Ã", "¤", "b"], decoders.ByteLevel())
    codec.token_texts([2, 3])
    assert codec._token_text.cache_info().maxsize == 100_000


def test_word_pieces_are_set_as_in_print_token_by_token(make_codec: MakeCodec) -> None:
    codec = make_codec(["run", "##ning", "dog", "'", "s", ",", "-"], decoders.WordPiece())
    ids = [4, 5, 6, 7, 4, 8, 2, 3, PAD]
    assert codec.token_texts(ids) == ["dog", "'", "s", ",", " dog", "-", "run", "ning", ""]
    assert codec.decode([ids]) == ["dog's, dog-running"]


def test_decoded_texts_have_neither_padding_nor_eos(make_codec: MakeCodec) -> None:
    codec = make_codec(["run", "##ning", "dog"], decoders.WordPiece())
    ids = [[2, 3, 4, EOS, PAD], [PAD, PAD, PAD, PAD, PAD]]
    assert codec.decode(ids) == codec.decode(torch.tensor(ids)) == ["running dog", ""]
    assert codec.decode([]) == []


def test_a_restricted_vocabulary_decodes_network_ids(make_codec: MakeCodec) -> None:
    codec = make_codec(["run", "##ning", "dog"], decoders.WordPiece(), **RESTRICTED)
    assert codec.decode([[3, 2]]) == ["dog run"]
    assert [codec.tokenizer_id(one) for one in range(4)] == RESTRICTED["kept_ids"]


# Text -> ids


def test_encoded_text_decodes_to_itself(tiny_t5: str) -> None:
    codec = codec_of(tiny_t5)
    ids = codec.encode("in the beginning")
    assert len(ids) == 3
    assert codec.decode([ids]) == ["in the beginning"]


def test_special_tokens_in_a_text_are_ordinary_text(tiny_t5: str) -> None:
    ids = codec_of(tiny_t5).encode("light </s> <pad> day")
    assert not {PAD, EOS} & set(ids)
    assert ids[0] == codec_of(tiny_t5).encode("light")[0]


def test_the_vocabulary_is_the_tokenizers_unless_it_is_restricted(make_codec: MakeCodec) -> None:
    full = make_codec(["run", "##ning", "dog"], decoders.WordPiece())
    assert (len(full.vocabulary), full.vocabulary.kept_ids) == (5, None)
    restricted = replace(full, **RESTRICTED)
    assert isinstance(restricted.vocabulary, RestrictedVocabulary)
    assert restricted.vocabulary.to_network(torch.tensor([0, 1, 2, 3, 4])).tolist() == [0, 1, 2, 2, 3]


def test_a_tokenizer_with_too_few_tokens_is_refused(make_codec: MakeCodec) -> None:
    codec = make_codec(["run", "dog"], decoders.WordPiece(), kept_ids=[0, 1, 2, 9], unknown_id=2)
    with pytest.raises(UserError, match="has 4 tokens, fewer than the model was trained with"):
        codec.decode([[2]])


# Ids -> latents


def test_latents_are_those_of_the_named_encoder_normalised(tiny_t5: str) -> None:
    encoder = PretrainedEncoder(tiny_t5)
    ids = torch.tensor([[3, 4, 5]])
    mask = torch.ones_like(ids).bool()
    prompt = PromptBatch(torch.tensor([0]), ids, mask)
    latents = codec_of(tiny_t5).embedder.prompts(prompt).latents
    hidden = encoder(ids, mask[:, None, :].expand(1, 3, 3))
    torch.testing.assert_close(latents, (hidden - 0.25) / 0.5)
    loaded = codec_of(tiny_t5, loaded_encoder=encoder)
    assert loaded.embedder.encoder is encoder
    assert torch.equal(loaded.embedder.prompts(prompt).latents, latents)


# Plain values


@pytest.mark.parametrize(
    "changes",
    [
        {},
        RESTRICTED | {"latent_mean": [0.5, -1.0], "pad_mode": "eos", "max_condition_length": 4},
    ],
)
def test_plain_values_give_the_codec_back(changes: dict[str, Any]) -> None:
    codec = codec_of("somewhere", **changes)
    values = json.loads(json.dumps(codec.to_dict()))
    assert TextCodec.from_dict(values) == codec
    assert TextCodec.from_dict(values).to_dict() == codec.to_dict()


def test_a_loaded_encoder_is_not_stored_nor_compared(tiny_t5: str) -> None:
    loaded = codec_of(tiny_t5, loaded_encoder=PretrainedEncoder(tiny_t5))
    assert loaded == codec_of(tiny_t5)
    assert TextCodec.from_dict(loaded.to_dict()).loaded_encoder is None


def test_a_missing_or_unknown_entry_is_named() -> None:
    values = codec_of("somewhere").to_dict()
    with pytest.raises(UserError, match=r"no entry 'codec.latent_std'; use a complete copy"):
        TextCodec.from_dict({name: value for name, value in values.items() if name != "latent_std"})
    with pytest.raises(UserError, match=r"an entry 'codec.wings' that this version"):
        TextCodec.from_dict(values | {"wings": 2})


# Sizes


@pytest.mark.parametrize("changes", [{}, {"latent_mean": [0.5] * 3}, RESTRICTED, {"max_condition_length": 4}])
def test_values_that_fit_the_network_pass(changes: dict[str, Any]) -> None:
    codec_of("somewhere", **changes).check_sizes(latent_size=3, vocab_size=4)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokenizer", 3),
        ("encoder", "bert"),
        ("encoder", {"class": "PretrainedEncoder"}),
        ("kept_ids", "all"),
        ("kept_ids", [1, 2]),
        ("kept_ids", ["a"] * 4),
        ("latent_mean", [0.5]),
        ("latent_mean", "0.5"),
        ("latent_std", "0.2"),
        ("latent_std", 0.0),
        ("max_length", None),
        ("max_condition_length", "long"),
        ("pad_id", None),
        ("eos_id", 4),
        ("unknown_id", None),
    ],
)
def test_values_that_do_not_fit_the_network_are_refused(name: str, value: Any) -> None:
    codec = codec_of("somewhere", **{**RESTRICTED, name: value})
    with pytest.raises(UserError) as refused:
        codec.check_sizes(latent_size=3, vocab_size=4)
    assert f"the codec.{name} {value!r:.40}, which does not fit" in str(refused.value)
    assert "\n" not in str(refused.value)


# What a checkpoint and the data have to agree on

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
