"""Where the token stream is cut into sequences."""

from __future__ import annotations

from itertools import chain, pairwise

from hypothesis import given
from hypothesis import strategies as st

from elf_lightning.data.packing import packed

EOS = 0
TEXTS = st.lists(st.integers(1, 30), max_size=60)
"""Tokens of each paragraph."""


def numbered(lengths: list[int]) -> list[list[int]]:
    """Paragraphs of so many tokens, all tokens different and none EOS."""
    starts = [1 + sum(lengths[:place]) for place in range(len(lengths))]
    return [list(range(start, start + length)) for start, length in zip(starts, lengths, strict=True)]


@given(TEXTS, st.integers(1, 16))
def test_pack_cuts_densely_and_leaves_out_the_rest(lengths: list[int], max_length: int) -> None:
    stream = list(chain(*numbered(lengths)))
    sequences = list(packed(numbered(lengths), "pack", max_length, EOS))
    assert all(len(sequence) == max_length for sequence in sequences)
    assert list(chain(*sequences)) == stream[: len(stream) // max_length * max_length]


@given(TEXTS, st.integers(2, 16))
def test_paragraphs_come_in_order_and_no_token_is_lost_or_doubled(
    lengths: list[int], max_length: int
) -> None:
    sequences = list(packed(numbered(lengths), "paragraphs", max_length, EOS))
    tokens = [token for sequence in sequences for token in sequence if token != EOS]
    assert tokens == list(chain(*numbered(lengths)))
    assert all(0 < len(sequence) <= max_length for sequence in sequences)


@given(TEXTS, st.integers(2, 16))
def test_eos_stands_only_where_the_next_paragraph_did_not_fit(lengths: list[int], max_length: int) -> None:
    paragraphs = numbered(lengths)
    length_from = {paragraph[0]: len(paragraph) for paragraph in paragraphs}
    sequences = list(packed(paragraphs, "paragraphs", max_length, EOS))
    for sequence, following in pairwise(sequences):
        assert EOS not in sequence[:-1]
        if sequence[-1] == EOS:
            assert len(sequence) + length_from[following[0]] > max_length
        else:
            assert len(sequence) == max_length
    assert not sequences or EOS not in sequences[-1]


@given(TEXTS, st.integers(2, 16))
def test_only_paragraphs_too_long_for_a_sequence_are_cut(lengths: list[int], max_length: int) -> None:
    place = {token: (sequence, position) for sequence, ids in enumerate(
        packed(numbered(lengths), "paragraphs", max_length, EOS)
    ) for position, token in enumerate(ids) if token != EOS}  # fmt: skip
    for paragraph in numbered(lengths):
        sequences = [place[token][0] for token in paragraph]
        if len(paragraph) < max_length:
            assert len(set(sequences)) == 1
        else:
            assert place[paragraph[0]][1] == 0
            assert [sequence - sequences[0] for sequence in sequences] == [
                token // max_length for token in range(len(paragraph))
            ]


def test_an_example_by_hand() -> None:
    sequences = list(packed([[1, 2], [3], [4, 5, 6], [7] * 6, [8]], "paragraphs", 5, EOS))
    assert sequences == [[1, 2, 3, EOS], [4, 5, 6, EOS], [7, 7, 7, 7, 7], [7, 8]]


@given(TEXTS, st.integers(2, 16))
def test_every_sequence_begins_with_a_sentence_and_is_full(lengths: list[int], max_length: int) -> None:
    sentences = numbered(lengths)
    stream = list(chain(*sentences))
    starts = {sentence[0] for sentence in sentences}
    for sequence in packed(sentences, "sentences", max_length, EOS):
        assert sequence[0] in starts
        assert sequence == stream[sequence[0] - 1 :][:max_length]


@given(TEXTS, st.integers(2, 16))
def test_sequences_from_sentences_lose_no_sentence_but_the_ends_of_long_ones(
    lengths: list[int], max_length: int
) -> None:
    sequences = list(packed(numbered(lengths), "sentences", max_length, EOS))
    kept = set(chain(*sequences))
    last = max(kept, default=0)
    for sentence in numbered(lengths):
        if sentence[-1] <= last:
            assert kept.issuperset(sentence[:max_length])
    for sequence, following in pairwise(sequences):
        assert sequence[0] < following[0] <= sequence[-1] + 1 or max(lengths) > max_length


def test_a_sentence_that_was_cut_begins_the_next_sequence() -> None:
    sequences = list(packed([[1, 2], [3, 4, 5], [6] * 6, [7, 8], [9, 10]], "sentences", 4, EOS))
    assert sequences == [[1, 2, 3, 4], [3, 4, 5, 6], [6, 6, 6, 6], [7, 8, 9, 10]]
