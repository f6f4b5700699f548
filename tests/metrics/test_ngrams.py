from __future__ import annotations

from itertools import chain, pairwise

import pytest
import torch

from elf_lightning.errors import UserError
from elf_lightning.metrics import CrossSampleOverlap, DistinctN, Repetition


def value(metric: DistinctN | CrossSampleOverlap | Repetition, texts: list[str]) -> float:
    metric.update(texts)
    return metric.compute().item()


def zipf_texts(count: int, words: int) -> list[str]:
    """Texts of made-up words, few of them frequent, most of them rare."""
    generator = torch.Generator().manual_seed(0)
    ranks = torch.rand(count, words, generator=generator).mul(9).exp().long()
    return [" ".join(map(str, row.tolist())) for row in ranks]


def test_ngrams_of_words() -> None:
    assert DistinctN(2).ngrams("a b c") == [("a", "b"), ("b", "c")]
    assert DistinctN(4).ngrams("a b c") == []


def test_repetition_is_the_mean_fraction_of_repeated_ngrams() -> None:
    metric = Repetition(n=2)
    # a b | b a | a b: one of three repeats. c d: none of one. e: no 2-gram.
    assert value(metric, ["a b a b", "c d", "e", ""]) == pytest.approx((1 / 3 + 0) / 2)
    assert metric.per_sample.isnan().tolist() == [False, False, True, True]


def test_repetition_counts_four_grams_unless_told() -> None:
    assert value(Repetition(), ["the " * 80]) == pytest.approx(76 / 77)
    assert value(Repetition(), ["a b c d e f g"]) == 0


def test_distinct_counts_over_all_samples() -> None:
    assert value(DistinctN(n=1), ["a b a", "a c"]) == pytest.approx(3 / 5)
    assert value(DistinctN(), ["a b c", "a b d"]) == pytest.approx(3 / 4)


def test_overlap_counts_ngrams_that_another_sample_has() -> None:
    # Of a b, b c | a b, b d | e f: two of five are shared. What one sample says twice is not.
    assert value(CrossSampleOverlap(n=2), ["a b c", "a b d", "e f"]) == pytest.approx(2 / 5)
    assert value(CrossSampleOverlap(n=2), ["a b a b a b", "c d"]) == 0
    assert value(CrossSampleOverlap(n=2), ["a b a b a b"]) == 0


def test_one_text_64_times_scores_worst(real: list[str]) -> None:
    assert value(CrossSampleOverlap(), real[:1] * 64) == 1
    assert value(CrossSampleOverlap(), real) == 0
    assert value(DistinctN(), real[:1] * 64) == pytest.approx(value(DistinctN(), real[:1]) / 64)
    assert value(DistinctN(), real) > 0.9


def test_a_hundred_thousand_ngrams_are_counted_exactly() -> None:
    texts = zipf_texts(count=500, words=300)
    rows = [list(pairwise(text.split())) for text in texts]
    everything = list(chain.from_iterable(rows))
    samples_with: dict[tuple[str, ...], int] = {}
    for ngram in chain.from_iterable(set(row) for row in rows):
        samples_with[ngram] = samples_with.get(ngram, 0) + 1
    shared = sum(count for count in samples_with.values() if count > 1) / sum(samples_with.values())
    assert value(DistinctN(n=2), texts) == pytest.approx(len(set(everything)) / len(everything), rel=1e-12)
    assert value(CrossSampleOverlap(n=2), texts) == pytest.approx(shared, rel=1e-12)


def test_words_are_cut_as_asked() -> None:
    assert value(Repetition(n=1, split=list), ["aab"]) == pytest.approx(1 / 3)
    assert value(DistinctN(n=1, split=lambda text: text.lower().split()), ["The the"]) == pytest.approx(1 / 2)


@pytest.mark.parametrize("metric", [Repetition, DistinctN, CrossSampleOverlap])
def test_texts_too_short_for_an_ngram_have_no_number(metric: type[Repetition]) -> None:
    assert torch.tensor(value(metric(n=4), ["one two", "three"])).isnan()


@pytest.mark.parametrize("metric", [Repetition, DistinctN, CrossSampleOverlap])
def test_ngrams_of_no_words_are_refused(metric: type[Repetition]) -> None:
    with pytest.raises(UserError, match="n=0 words do not exist; choose n=1 or more"):
        metric(n=0)
