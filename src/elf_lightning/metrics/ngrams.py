"""How much of the text was said before: within a sample, and by other samples. No scoring model needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from elf_lightning.errors import UserError
from elf_lightning.metrics.text_metric import SampleMean, TextMetric

BUCKETS = 2**22

NGram = tuple[str, ...]


def ngrams(words: Sequence[str], n: int) -> list[NGram]:
    """All runs of `n` words, in order; none where there are fewer than `n` words."""
    return list(zip(*(words[start:] for start in range(n)), strict=False))


class Repetition(SampleMean):
    """Share of a sample's n-grams that repeat an earlier one of the same sample, mean over samples.

    `1 - distinct/all` for each sample (seq-rep-n, arXiv 1908.04319). Samples of fewer than `n` words have
    no n-gram and are left out of the mean.

    Args:
        n: words in an n-gram.
        split: cuts a text into words; the default cuts at white space.
        **kwargs: as for `torchmetrics.Metric`.

    Raises:
        UserError: unless `n` is positive.
    """

    higher_is_better = False

    def __init__(self, n: int = 4, split: Callable[[str], list[str]] = str.split, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n = _checked(n)
        self.split = split

    def measure(self, texts: Sequence[str]) -> list[float]:
        """Each text's share of repeated n-grams, in [0, 1)."""
        rows = [ngrams(self.split(text), self.n) for text in texts]
        return [1 - len(set(row)) / len(row) if row else math.nan for row in rows]


class _NGramTable(TextMetric):
    """Counts n-grams of all samples in hash buckets, a state of one size that ranks can add up.

    Args:
        n: words in an n-gram.
        split: cuts a text into words; the default cuts at white space.
        **kwargs: as for `torchmetrics.Metric`.

    Raises:
        UserError: unless `n` is positive.
    """

    counts: Tensor

    def __init__(self, n: int, split: Callable[[str], list[str]] = str.split, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n = _checked(n)
        self.split = split
        self.add_sum("counts", torch.int32, (BUCKETS,))

    def counted(self, row: list[NGram]) -> Iterable[NGram]:
        """Those n-grams of one sample that are counted."""
        return row

    def update(self, texts: Sequence[str]) -> None:
        """Add N texts."""
        self.count_samples(texts)
        rows = (ngrams(self.split(text), self.n) for text in texts)
        found = [_bucket(ngram) for row in rows for ngram in self.counted(row)]
        buckets = torch.tensor(found, dtype=torch.int64, device=self.device)
        self.counts.index_add_(0, buckets, torch.ones_like(buckets, dtype=torch.int32))

    def totals(self) -> tuple[Tensor, Tensor]:
        """Number of n-grams counted and of empty buckets (at least 1), float64 scalars.

        Raises:
            UserError: if there are no samples, or all are empty.
        """
        self.refuse_nothing()
        empty = (self.counts == 0).sum(dtype=torch.float64).clamp(min=1)
        return self.counts.sum(dtype=torch.float64), empty


class DistinctN(_NGramTable):
    """Different n-grams over all n-grams, of all samples together (distinct-n, arXiv 1510.03055).

    The number of different n-grams follows from the buckets left empty (linear counting): exact for a few
    hundred n-grams, and within 0.1% for a million.

    Args:
        n: words in an n-gram.
        split: cuts a text into words; the default cuts at white space.
        **kwargs: as for `torchmetrics.Metric`.

    Raises:
        UserError: unless `n` is positive.
    """

    higher_is_better = True

    def __init__(self, n: int = 2, split: Callable[[str], list[str]] = str.split, **kwargs: Any) -> None:
        super().__init__(n, split, **kwargs)

    def compute(self) -> Tensor:
        """The share in [0, 1], a float64 scalar; NaN where every text is too short.

        Raises:
            UserError: if there are no samples, or all are empty.
        """
        total, empty = self.totals()
        distinct = torch.round(-BUCKETS * torch.log(empty / BUCKETS))
        return torch.minimum(distinct, total) / total


class CrossSampleOverlap(_NGramTable):
    """Share of n-grams that another sample has too: 0 where all samples differ, 1 where all are one text.

    A sample's n-grams count once each, so what a sample says twice is left to `Repetition`. The share grows
    with the number of samples: compare equal numbers of them. One sample alone shares nothing.

    An n-gram of one sample only leaves a count of 1, unless another falls into its bucket. How often that
    happens shows in the buckets left empty and is corrected for: exact for a few hundred n-grams, and
    within 0.001 for a million.

    Args:
        n: words in an n-gram.
        split: cuts a text into words; the default cuts at white space.
        **kwargs: as for `torchmetrics.Metric`.

    Raises:
        UserError: unless `n` is positive.
    """

    higher_is_better = False

    def __init__(self, n: int = 4, split: Callable[[str], list[str]] = str.split, **kwargs: Any) -> None:
        super().__init__(n, split, **kwargs)

    def counted(self, row: list[NGram]) -> Iterable[NGram]:
        """Each different n-gram of one sample, once."""
        return set(row)

    def compute(self) -> Tensor:
        """The share in [0, 1], a float64 scalar; NaN where every text is too short.

        Raises:
            UserError: if there are no samples, or all are empty.
        """
        total, empty = self.totals()
        alone = torch.round((self.counts == 1).sum(dtype=torch.float64) * BUCKETS / empty)
        return 1 - torch.minimum(alone, total) / total


def _checked(n: int) -> int:
    if n < 1:
        raise UserError(f"n-grams of n={n} words do not exist; choose n=1 or more")
    return n


def _bucket(ngram: NGram) -> int:
    """The n-gram's place in the table, the same in every process (Python's own hash of text is not)."""
    text = "\0".join(ngram).encode(errors="surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest()) % BUCKETS
