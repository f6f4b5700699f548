"""What the numbers say, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from elf_lightning.reporting.scores import Scores

VARIETY = 0.15
"""Difference of entropy from real text, in nats, beyond which text is repetitive (below) or noise (above)."""
MORE_LIKELY = 1.25
"""No good text has a Gen. PPL lower than real text's divided by this."""
MORE_REPETITION = 0.01
"""Fraction of repeated 4-grams, above that of real text, beyond which a model repeats itself."""


@dataclass(frozen=True)
class Finding:
    """One conclusion from the numbers.

    Attributes:
        sentence: the finding in words.
        good: whether it speaks for the model; None if undecided.
    """

    sentence: str
    good: bool | None


def closest_to_real(rows: Sequence[Scores]) -> Scores:
    """The model's row nearest to real text; without that, the one with the best BLEU or the highest entropy.

    Gen. PPL counts by its logarithm, so that both it and entropy are in nats.
    """
    ours = [row for row in rows if row.kind == "sampled"]
    real = next((row for row in rows if row.kind == "real"), None)
    if real is None:
        name = "bleu" if "bleu" in ours[0].metrics else "entropy"
        return max(ours, key=lambda row: row.mean(name))

    def distance(row: Scores) -> float:
        nats = math.log(row.mean("gen_ppl") / real.mean("gen_ppl"))
        return abs(nats) + abs(row.mean("entropy") - real.mean("entropy"))

    return min(ours, key=distance)


def verdict(rows: Sequence[Scores]) -> list[Finding]:
    """Findings on the model's best row, compared with real and shuffled text, or with the copied source."""
    known = {row.kind: row for row in rows}
    best = closest_to_real(rows)
    if "copied" in known:
        return _pairs(best, known["copied"])
    if "real" not in known:
        return [Finding("There is no real text to compare with; give some with --data.", None)]
    real, mixed = known["real"], known["shuffled"]
    return [
        _likelihood(*(row.mean("gen_ppl") / real.mean("gen_ppl") for row in (best, mixed))),
        _variety(best.mean("entropy"), real.mean("entropy")),
        _repetition(best.mean("repetition"), real.mean("repetition")),
    ]


def _pairs(ours: Scores, copied: Scores) -> list[Finding]:
    """Copying the source costs nothing and often shares much with the reference."""
    bleu, free = ours.mean("bleu"), copied.mean("bleu")
    rouge, free_rouge = 100 * ours.mean("rougeL"), 100 * copied.mean("rougeL")
    return [
        Finding(f"BLEU is {bleu:.1f}; copying the source would have {free:.1f}.", bleu > free),
        Finding(f"ROUGE-L is {rouge:.1f}, against {free_rouge:.1f}.", rouge > free_rouge),
    ]


def _likelihood(ours: float, mixed: float) -> Finding:
    details = f"The scoring model finds these texts {ours:.1f} times as surprising as real ones"
    if ours * MORE_LIKELY < 1:
        return Finding(f"{details}: likelier than anything people write.", False)
    # On a logarithmic scale, closer to real text than to its shuffled words.
    return Finding(f"{details}; real words in random order, {mixed:.1f} times.", ours * ours < mixed)


def _variety(ours: float, real: float) -> Finding:
    text = f"real text ({ours:.2f} nats of entropy, real text {real:.2f})"
    if ours < real - VARIETY:
        return Finding(f"They are less varied than {text}: the perplexity flatters them.", False)
    if ours > real + VARIETY:
        return Finding(f"They are more varied than {text}, as random words are.", False)
    return Finding(f"They are as varied as {text}.", True)


def _repetition(ours: float, real: float) -> Finding:
    if math.isnan(ours) or math.isnan(real):
        return Finding("They are too short to repeat themselves.", None)
    details = f"{100 * ours:.1f}% of 4-grams, real text {100 * real:.1f}%"
    if ours > real + MORE_REPETITION:
        return Finding(f"They repeat themselves ({details}).", False)
    return Finding(f"They do not repeat themselves more than real text ({details}).", True)
