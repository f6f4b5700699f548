"""Each token's share of a text."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from elf_lightning.data import Detokenizer

PAD, EOS = 0, 1


def detokenizer(words: list[str], decoder: object, kept_ids: list[int] | None = None) -> Detokenizer:
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(["[PAD]", "[SEP]", *words])}))
    tokenizer.decoder = decoder
    return Detokenizer(PreTrainedTokenizerFast(tokenizer_object=tokenizer), kept_ids, {PAD, EOS})


@pytest.mark.parametrize(
    ("words", "decoder", "expected"),
    [
        (["run", "##ning", "dog"], decoders.WordPiece(), ["run", "ning", " dog"]),
        (["▁run", "ning", "▁dog"], decoders.Metaspace(), ["run", "ning", " dog"]),
        (["run", "ning", "Ġdog"], decoders.ByteLevel(), ["run", "ning", " dog"]),
    ],
)
def test_pieces_join_as_the_tokenizer_does(words: list[str], decoder: object, expected: list[str]) -> None:
    turn = detokenizer(words, decoder)
    assert turn.pieces([2, 3, 4]) == expected
    assert "".join(turn.pieces([2, 3, 4])) == turn(torch.tensor([[2, 3, 4]]))[0]


def test_positions_stay_where_there_is_no_text() -> None:
    turn = detokenizer(["run", "##ning", "dog"], decoders.WordPiece())
    assert turn.pieces([2, PAD, 3, EOS, PAD]) == ["run", "", "ning", "", ""]
    assert turn.pieces([PAD, 4]) == ["", "dog"]


def test_restricted_vocabulary() -> None:
    turn = detokenizer(["run", "##ning", "dog"], decoders.WordPiece(), kept_ids=[0, 1, 4, 2])
    assert turn.pieces([3, 2]) == ["run", " dog"]


def test_letter_of_two_tokens_comes_with_its_second() -> None:
    turn = detokenizer(["Ã", "¤", "b"], decoders.ByteLevel())
    assert turn.pieces([4, 2, 3, 4]) == ["b", "", "ä", "b"]
