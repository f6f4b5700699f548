"""What can be said of generated texts without a scoring_model."""

from __future__ import annotations

from collections.abc import Sequence

from elf_lightning.metrics import CrossSampleOverlap, DistinctN, Repetition
from elf_lightning.metrics.ngrams import NGram, ngrams

COPIED_WORDS = 8
"""A run of so many words that stands in the training text counts as copied."""


class TextMetrics:
    """Numbers of a set of texts, some of them against the training text.

    Args:
        training_texts: what the network was trained on.
    """

    def __init__(self, training_texts: Sequence[str]) -> None:
        words = " ".join(training_texts).split()
        self._known = set(words)
        self._runs: set[NGram] = set(ngrams(words, COPIED_WORDS))

    def __call__(self, texts: Sequence[str]) -> dict[str, float]:
        """`repetition`, `overlap`, `distinct-n`; shares of known words and of copied runs of words."""
        values: dict[str, float] = {}
        for name, metric in (
            ("repetition", Repetition()),
            ("overlap", CrossSampleOverlap()),
            ("distinct", DistinctN()),
        ):
            metric.update(texts)
            values[name] = metric.compute().item()
        words = [text.split() for text in texts]
        runs = [run for row in words for run in ngrams(row, COPIED_WORDS)]
        every = [word for row in words for word in row]
        values["known_words"] = sum(word in self._known for word in every) / max(1, len(every))
        values["copied"] = sum(run in self._runs for run in runs) / max(1, len(runs))
        return values
