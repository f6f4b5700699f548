"""Where the token stream of a corpus is cut into sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

Packing = Literal["pack", "paragraphs", "truncate", "wrap"]
Cut = tuple[int, bool]
"""Where a sequence ends, in tokens from the beginning of the stream, and whether EOS follows there."""


def cut_densely(lengths: Iterable[int], max_length: int) -> Iterator[Cut]:
    """Full sequences; the tokens after the last one are left out.

    Args:
        lengths: tokens of each document.
        max_length: tokens of a sequence.
    """
    start = end = 0
    for length in lengths:
        end += length
        while end - start >= max_length:
            start += max_length
            yield start, False


def cut_between_paragraphs(lengths: Iterable[int], max_length: int) -> Iterator[Cut]:
    """Sequences of whole paragraphs, each ended by EOS where the next paragraph does not fit with an EOS.

    A paragraph of `max_length` tokens or more is cut into full sequences without EOS, and what remains of it
    begins the next sequence. The last sequence, after which nothing comes, has no EOS.

    Args:
        lengths: tokens of each paragraph.
        max_length: longest sequence, in tokens, EOS included.
    """
    start = end = 0
    for length in lengths:
        if start < end and end + length - start >= max_length:
            yield end, True
            start = end
        end += length
        while end - start >= max_length:
            start += max_length
            yield start, False
    if start < end:
        yield end, False


CUTS: dict[str, Callable[[Iterable[int], int], Iterator[Cut]]] = {
    "pack": cut_densely,
    "paragraphs": cut_between_paragraphs,
}


def packed(texts: Iterable[list[int]], packing: str, max_length: int, eos_id: int) -> Iterator[list[int]]:
    """The sequences of a stream of documents or paragraphs.

    Args:
        texts: token ids of each document or paragraph.
        packing: `pack` or `paragraphs`.
        max_length: longest sequence, in tokens.
        eos_id: the tokenizer's id that ends a text.
    """
    buffer: list[int] = []
    cut = 0

    def lengths() -> Iterator[int]:
        for text in texts:
            buffer.extend(text)
            yield len(text)

    for end, ended in CUTS[packing](lengths(), max_length):
        yield buffer[: end - cut] + [eos_id] * ended
        del buffer[: end - cut]
        cut = end
