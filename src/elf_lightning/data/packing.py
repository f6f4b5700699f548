"""Where the token stream of a corpus is cut into sequences."""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

Packing = Literal["pack", "bos_eos", "paragraphs", "sentences", "truncate", "wrap"]
BOS_EOS = "bos_eos"  # sequences that begin and end with the EOS id, which is GPT-2's BOS too


class Cut(NamedTuple):
    """A sequence: its start and end in the stream, in tokens, and whether EOS is added at its end."""

    start: int
    end: int
    eos: bool


def cut_densely(lengths: Iterable[int], max_length: int) -> Iterator[Cut]:
    """Full sequences of documents of these lengths; the tokens after the last one are left out."""
    start = end = 0
    for length in lengths:
        end += length
        while end - start >= max_length:
            yield Cut(start, start + max_length, False)
            start += max_length


def cut_for_both_ends(lengths: Iterable[int], max_length: int) -> Iterator[Cut]:
    """As `cut_densely`, with room for BOS and EOS: the sequences of MDLM, Duo and FLM in GPT-2 tokens."""
    return (cut._replace(eos=True) for cut in cut_densely(lengths, max_length - 2))


def cut_between_paragraphs(lengths: Iterable[int], max_length: int) -> Iterator[Cut]:
    """Sequences of whole paragraphs, each ended by EOS where the next paragraph does not fit with an EOS.

    A paragraph of `max_length` tokens or more is cut into full sequences without EOS, and what remains of it
    begins the next sequence. The last sequence, after which nothing comes, has no EOS.
    """
    start = end = 0
    for length in lengths:
        if start < end and end + length - start >= max_length:
            yield Cut(start, end, True)
            start = end
        end += length
        while end - start >= max_length:
            yield Cut(start, start + max_length, False)
            start += max_length
    if start < end:
        yield Cut(start, end, False)


def cut_from_sentences(lengths: Iterable[int], max_length: int) -> Iterator[Cut]:
    """Full sequences that begin with sentences; the one after a cut sentence begins with that sentence.

    Of a sentence longer than a sequence, the rest is left out, as are the tokens after the last sequence.
    """
    start = end = 0
    for length in lengths:
        sentence, end = end, end + length
        while end - start >= max_length:
            yield Cut(start, start + max_length, False)
            start = sentence if start < sentence and end - start > max_length else end


CUTS: dict[str, Callable[[Iterable[int], int], Iterator[Cut]]] = {
    "pack": cut_densely,
    BOS_EOS: cut_for_both_ends,
    "paragraphs": cut_between_paragraphs,
    "sentences": cut_from_sentences,
}
"""How a stream of documents, paragraphs or sentences of given lengths becomes sequences of `max_length`."""


def packed(texts: Iterable[list[int]], packing: str, max_length: int, eos_id: int) -> Iterator[list[int]]:
    """The sequences of a stream of the ids of documents, paragraphs or sentences."""
    buffer: list[int] = []
    first = 0  # where the buffer starts in the stream

    def lengths() -> Iterator[int]:
        for text in texts:
            buffer.extend(text)
            yield len(text)

    for start, end, eos in CUTS[packing](lengths(), max_length):
        del buffer[: start - first]
        first = start
        yield [eos_id] * (packing == BOS_EOS) + buffer[: end - start] + [eos_id] * eos
