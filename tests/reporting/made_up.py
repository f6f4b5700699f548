"""Scores that nobody measured."""

from __future__ import annotations

from elf_lightning.reporting import Estimate, Kind, Report, Scores, Specimen, TextPath, trajectory_page

SCORING_MODEL = "a <tiny> scoring model"


def scores(name: str, kind: Kind, gen_ppl: float, entropy: float, repetition: float = 0.0) -> Scores:
    metrics = {
        "gen_ppl": gen_ppl,
        "entropy": entropy,
        "repetition": repetition,
        "overlap": 0.1,
        "distinct": 0.9,
    }
    return Scores(name, kind, 48, 3, {key: Estimate(value, 0.01) for key, value in metrics.items()})


REAL = scores("real validation text", "real", 60, 3.5)
MIXED = scores("the same words, shuffled", "shuffled", 800, 3.5)
SWEEP = [
    scores(f"SDE {steps} steps, gamma 1.5, w {w}", "sampled", 900 / w / steps**0.5, 3.6 - 0.1 * w, 0.01 * w)
    for w in (1, 2, 3, 4)
    for steps in (16, 32, 64, 128)
]


def paired(name: str, kind: Kind, bleu: float) -> Scores:
    metrics = {"bleu": bleu, "bleu_default": bleu - 1, "rouge1": 0.5, "rouge2": 0.2, "rougeL": bleu / 100}
    return Scores(name, kind, 48, 1, {key: Estimate(value) for key, value in metrics.items()})


PAIRED = [
    paired("the source, copied", "copied", 12),
    paired("the references, shuffled", "shuffled", 9),
    paired("ODE 64 steps, w 1, cfg scale 2", "sampled", 25),
]


def report(rows: list[Scores], scoring_model: str | None = SCORING_MODEL) -> Report:
    steps = [
        ["the", " light", " light"],
        ["the", " light", " was"],
        ["the", " day", " was"],
    ]
    tokens = [[1, 2, 2], [1, 2, 3], [1, 4, 3]]
    page = trajectory_page("How", {}, [0.2, 0.6, 1.0], [TextPath("text 0", tokens, steps)])
    curves = {
        "train/denoise_loss": [(step, 2 / step) for step in range(1, 1000)],
        "val/denoise_loss": [(step, 2.2 / step) for step in range(100, 1000, 100)],
        "val/decode_accuracy": [(500, 0.5)],
    }
    specimens = [
        Specimen("</p><script>alert(1)</script>", "let there be $light", None if scoring_model else "yea")
    ] * 2
    return Report(
        "my run", {"model": "5M <b>"}, scoring_model, rows, {"BLEU": "case:lc"}, curves, specimens, page
    )
