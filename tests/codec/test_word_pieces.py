"""Where spaces go in a text whose punctuation was split off, and sequences of known words."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertTokenizer

from elf_lightning.codec.word_pieces import KnownWords, space_before, words_in_pieces


def set_as_in_print(text: str) -> str:
    """A text without its spaces around punctuation, with those that `space_before` gives it."""
    words = re.findall(r"\w+|[^\w\s]", text)
    return "".join(" " * space + word for space, word in zip(space_before(words), words, strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "the sea-water was cold, and the captain's boat leaked.",
        '"who is there?" he asked. "nobody," said she; "go away!"',
        "it isn't so; they'll come, and i've seen 'em",
        "(a note) on page 3, with 1,000 ships at 10:30 a.m. and $5",
        "'tis the dogs' dinner, at five o'clock",
        "he said: \"she cried 'stop!' and ran.\"",
        "no [more] of it",
    ],
)
def test_texts_are_set_as_in_print(text: str) -> None:
    assert set_as_in_print(text) == text


@given(st.lists(st.sampled_from(["a", "s", "3", "100", *".,;:!?()[]-\"'$"]), max_size=20))
def test_each_word_has_its_place_and_the_first_none_before_it(words: list[str]) -> None:
    spaces = space_before(words)
    assert len(spaces) == len(words)
    assert not any(spaces[:1])


START, OTHER, ING, ED, LY = range(5)
INSIDE = {ING, ED, LY}
WORDS = {(START, ING), (START, ED, LY), (OTHER, LY)}


def spelled(tokens: tuple[int, ...]) -> list[tuple[int, ...]]:
    words: list[tuple[int, ...]] = []
    for token in tokens:
        if token in INSIDE and words:
            words[-1] += (token,)
        else:
            words.append((token,))
    return words


def is_known(tokens: tuple[int, ...]) -> bool:
    *whole, last = spelled(tokens)
    begun = {word[:length] for word in WORDS for length in range(1, len(word) + 1)}
    known = all(word in WORDS or (len(word) == 1 and word[0] not in INSIDE) for word in whole)
    return known and (last in begun or (len(last) == 1 and last[0] not in INSIDE))


@given(st.integers(0, 10_000), st.integers(1, 5))
def test_the_best_sequence_of_known_words_is_found(seed: int, length: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores, ids = torch.randn(length, 5, generator=generator).sort(descending=True)
    found = KnownWords(WORDS, INSIDE).most_likely(scores, ids)
    of = [
        dict(zip(row, values, strict=True)) for row, values in zip(ids.tolist(), scores.tolist(), strict=True)
    ]

    def score(tokens: tuple[int, ...]) -> float:
        return sum(values[token] for values, token in zip(of, tokens, strict=True))

    best = max(filter(is_known, itertools.product(range(5), repeat=length)), key=score)
    assert tuple(found) == best


def test_the_likeliest_token_is_taken_where_none_fits() -> None:
    words = KnownWords(WORDS, INSIDE)
    scores = torch.tensor([[1.0], [0.5]])
    assert words.most_likely(scores, torch.tensor([[OTHER], [ED]])) == [OTHER, ED]


def test_known_words_stay_as_they_are() -> None:
    ids = torch.tensor([[START, OTHER], [ED, ING], [LY, OTHER], [OTHER, START]])
    scores = torch.tensor([2.0, 1.0]).expand(4, 2)
    assert KnownWords(WORDS, INSIDE).most_likely(scores, ids) == [START, ED, LY, OTHER]


def test_words_of_several_pieces_are_listed_if_they_are_not_rare() -> None:
    pieces = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "go", "##ing", "##ne", "we", "."]
    tokenizer = BertTokenizer({piece: number for number, piece in enumerate(pieces)})
    texts = ["Going, going.", "we go going.", "gone gone", "we we we"]
    assert words_in_pieces(tokenizer, texts) == ["going"]
