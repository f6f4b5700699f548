"""How much of the text was said before: within a sample, and by other samples. No scoring model needed."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

from elf_lightning.errors import UserError
from elf_lightning.metrics.text_metric import CorpusMetric, MetricNumber, SampleMean, TextMetric

_percent = partial(MetricNumber, percent=True)
_low = partial(_percent, higher_is_better=False)


class NGramMetric(TextMetric):
    """What the metrics of n-grams share: `n` words each, by default `default_n`, as `split` cuts a text."""

    default_n: ClassVar[int] = 4

    def __init__(
        self, n: int | None = None, split: Callable[[str], list[str]] = str.split, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.n = self.default_n if n is None else n
        self.split = split
        if self.n < 1:
            raise UserError(f"n-grams of n={n} words do not exist; choose n=1 or more")

    def ngrams(self, text: str) -> list[tuple[str, ...]]:
        """All n-grams of a text, in order; none if it has fewer than n words."""
        words = self.split(text)
        return list(zip(*(words[start:] for start in range(self.n)), strict=False))


class Repetition(NGramMetric, SampleMean):
    """Fraction of a sample's n-grams that repeat an earlier one of the same sample, mean over samples.

    `1 - distinct/all` for each sample (seq-rep-n, arXiv 1908.04319). Samples of fewer than `n` words have
    no n-gram and are left out of the mean.
    """

    meaning = "4-grams that occur earlier in the same text. Low is good."
    numbers = (_low("repetition", "Repetition %", meaning, headline=True),)

    def measure(self, texts: Sequence[str], *references: Sequence[str]) -> list[float]:
        """Each text's fraction of repeated n-grams, in [0, 1)."""
        return [1 - len(set(found)) / len(found) if found else math.nan for found in map(self.ngrams, texts)]


class CrossSampleOverlap(NGramMetric, CorpusMetric):
    """Fraction of n-grams that another sample has too: 0 where all samples differ, 1 where all are one text.

    Each sample counts an n-gram once, so repetition within a sample is left to `Repetition`. The fraction
    grows with the number of samples: compare equal numbers of them. A single sample has an overlap of 0.
    """

    meaning = "4-grams that also occur in another text. Low is good; copies of one text give 100."
    numbers = (_low("overlap", "Overlap %", meaning),)

    def measure(self, texts: Sequence[str], *references: Sequence[str]) -> float:
        """The fraction in [0, 1]."""
        samples_with = Counter(ngram for text in texts for ngram in set(self.ngrams(text)))
        unshared = sum(count == 1 for count in samples_with.values())
        return 1 - unshared / samples_with.total() if samples_with else math.nan


class DistinctN(NGramMetric, CorpusMetric):
    """Different n-grams over all n-grams, of all samples together (distinct-n, arXiv 1510.03055)."""

    meaning = "Different 2-grams among all 2-grams of all texts. Close to real text is good."
    numbers = (_percent("distinct", "Distinct %", meaning),)
    default_n = 2

    def measure(self, texts: Sequence[str], *references: Sequence[str]) -> float:
        """The fraction in [0, 1]."""
        counts = Counter(ngram for text in texts for ngram in self.ngrams(text))
        return len(counts) / counts.total() if counts else math.nan
