"""What the numbers say, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from elf_lightning.reporting.scores import Scores

LESS_VARIED = 0.15
"""Nats of entropy below real text from which on a Gen. PPL flatters."""
MORE_REPETITION = 0.01
"""Share of repeated 4-grams above real text's from which on a model is said to repeat itself."""


def closest_to_real(rows: Sequence[Scores]) -> Scores:
    """The model's row nearest to real text; in text-to-text tasks, the one with the best BLEU.

    Gen. PPL counts by its logarithm, so that both it and entropy are in nats.
    """
    ours = [row for row in rows if row.kind == "sampled"]
    real = next((row for row in rows if row.kind == "real"), None)
    if real is None:
        return max(ours, key=lambda row: row.metrics["bleu"].mean)

    def distance(row: Scores) -> float:
        return abs(_log_ppl(row) - _log_ppl(real)) + abs(_mean(row, "entropy") - _mean(real, "entropy"))

    return min(ours, key=distance)


def verdict(rows: Sequence[Scores]) -> list[str]:
    """A few sentences on the model's best row beside the rows it must be compared with."""
    known = {row.kind: row for row in rows}
    best = closest_to_real(rows)
    if "real" not in known:
        copied = known["copied"]
        return [
            f"BLEU is {_mean(best, 'bleu'):.1f}; copying the source would have {_mean(copied, 'bleu'):.1f}.",
            f"ROUGE-L is {100 * _mean(best, 'rougeL'):.1f}, against {100 * _mean(copied, 'rougeL'):.1f}.",
        ]
    real, mixed = known["real"], known["shuffled"]
    return [
        f"The judge finds these texts {_times(best, real)} times as surprising as real ones; "
        f"real words in random order, {_times(mixed, real)} times.",
        _variety(_mean(best, "entropy"), _mean(real, "entropy")),
        _repetition(_mean(best, "repetition"), _mean(real, "repetition")),
    ]


def _variety(ours: float, real: float) -> str:
    told = f"{ours:.2f} nats of entropy, real text {real:.2f}"
    if ours < real - LESS_VARIED:
        return f"They are less varied than real text ({told}): the perplexity flatters them."
    return f"They are as varied as real text ({told})."


def _repetition(ours: float, real: float) -> str:
    told = f"{100 * ours:.1f}% of 4-grams, real text {100 * real:.1f}%"
    if math.isnan(ours) or math.isnan(real):
        return "They are too short to repeat themselves."
    if ours > real + MORE_REPETITION:
        return f"They repeat themselves ({told})."
    return f"They do not repeat themselves more than real text ({told})."


def _times(row: Scores, real: Scores) -> str:
    return f"{_mean(row, 'gen_ppl') / _mean(real, 'gen_ppl'):.1f}"


def _mean(row: Scores, name: str) -> float:
    return row.metrics[name].mean


def _log_ppl(row: Scores) -> float:
    return math.log(_mean(row, "gen_ppl"))
