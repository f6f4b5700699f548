"""Constructed extremes: what is bad in one way must rank worst where that way is measured."""

from __future__ import annotations

import random

import pytest
import torch

from elf_lightning.errors import UserError
from elf_lightning.metrics import (
    Bleu,
    CrossSampleOverlap,
    DistinctN,
    GenerativePerplexity,
    Repetition,
    Rouge,
    ScoringModel,
    UnigramEntropy,
)


@pytest.fixture
def table(scoring_model: ScoringModel, real: list[str]) -> dict[str, dict[str, float]]:
    """Every metric of every kind of text."""
    draw = random.Random(0)
    words = sorted({word for text in real for word in text.split()})
    texts = {
        "real": real,
        "one word": [" ".join(["the"] * 18)] * len(real),
        "one text": real[:1] * len(real),
        "random words": [" ".join(draw.choices(words, k=18)) for _ in real],
    }
    return {kind: measured(scoring_model, rows) for kind, rows in texts.items()}


def measured(scoring_model: ScoringModel, texts: list[str]) -> dict[str, float]:
    metrics = {
        "perplexity": GenerativePerplexity(scoring_model),
        "entropy": UnigramEntropy(scoring_model),
        "repetition": Repetition(),
        "distinct": DistinctN(),
        "overlap": CrossSampleOverlap(),
    }
    for metric in metrics.values():
        metric.update(texts)
    return {name: metric.compute().item() for name, metric in metrics.items()}


def test_extremes_rank_as_they_should(table: dict[str, dict[str, float]]) -> None:
    real, word, text, noise = (table[kind] for kind in ("real", "one word", "one text", "random words"))
    assert word["entropy"] == 0 < min(real["entropy"], text["entropy"], noise["entropy"])
    assert word["repetition"] > 0.9 > real["repetition"] == text["repetition"] == noise["repetition"] == 0
    assert word["distinct"] < text["distinct"] < real["distinct"]
    assert text["overlap"] == word["overlap"] == 1 > real["overlap"] == noise["overlap"] == 0
    assert real["distinct"] > 0.9 and noise["distinct"] > 0.9


def test_only_the_scoring_model_tells_random_words_from_real_text(
    scoring_model: ScoringModel, real: list[str]
) -> None:
    # A random network knows no text: teach it these.
    model, reader = scoring_model.model.requires_grad_(True), scoring_model.tokenizer
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    rows = [torch.tensor([row]) for row in reader.sequences(real)]
    for _ in range(15):
        for row in rows:
            model(input_ids=row, labels=row).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    draw = random.Random(0)
    shuffled = [" ".join(draw.sample(text.split(), len(text.split()))) for text in real]
    known, unknown = measured(scoring_model, real), measured(scoring_model, shuffled)
    assert known["perplexity"] < unknown["perplexity"] / 2
    assert known["entropy"] == pytest.approx(unknown["entropy"])


def unpaired(name: str, scoring_model: ScoringModel) -> object:
    return {
        "perplexity": lambda: GenerativePerplexity(scoring_model),
        "entropy": lambda: UnigramEntropy(scoring_model),
        "repetition": Repetition,
        "distinct": DistinctN,
        "overlap": CrossSampleOverlap,
    }[name]()


@pytest.mark.parametrize("name", ["perplexity", "entropy", "repetition", "distinct", "overlap"])
def test_no_samples_and_empty_samples_are_refused(
    name: str, scoring_model: ScoringModel, real: list[str]
) -> None:
    metric = unpaired(name, scoring_model)
    metric.update([])
    with pytest.raises(UserError, match=r"\w+ has no samples to score; give it at least one text"):
        metric.compute()
    metric.update(["", " \n"])
    with pytest.raises(UserError, match=r"\w+: all 2 samples are empty"):
        metric.compute()
    metric.update(real)
    assert metric.compute().isfinite()


@pytest.mark.parametrize("metric", [Bleu, Rouge])
def test_pairs_are_refused_likewise(metric: type[Bleu]) -> None:
    pairs = metric()
    pairs.update([], [])
    with pytest.raises(UserError, match="has no samples to score"):
        pairs.compute()
    pairs.update(["", ""], ["a b", "c d"])
    with pytest.raises(UserError, match="all 2 samples are empty"):
        pairs.compute()
    with pytest.raises(UserError, match="2 hypotheses for 1 references; give as many"):
        pairs.update(["a", "b"], ["a"])
