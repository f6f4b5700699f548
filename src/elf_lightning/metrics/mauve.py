"""MAUVE: how far the distribution of samples is from that of real text."""

from __future__ import annotations

from collections.abc import Sequence

from elf_lightning.errors import UserError
from elf_lightning.metrics.optional import import_optional
from elf_lightning.metrics.scoring_model import ScoringModel


def mauve_score(
    texts: Sequence[str], references: Sequence[str], scoring_model: ScoringModel, seed: int = 25
) -> float:
    """MAUVE (arXiv 2102.01454) between samples and real texts, 0 to 1, higher is closer.

    It is not a sum over ranks: gather the texts and call it on one rank. The published numbers use
    gpt2-large and thousands of texts on each side.

    Args:
        texts: samples.
        references: real texts, about as many; they need not be paired.
        scoring_model: its last hidden states represent the texts.
        seed: of the clustering.

    Raises:
        UserError: if `mauve-text` is not installed, or one side has no text that is not empty.
    """
    mauve = import_optional("mauve", "mauve-text")
    sides = [[text for text in side if text.strip()] for side in (texts, references)]
    if not all(sides):
        raise UserError(
            f"MAUVE compares {len(sides[0])} samples with {len(sides[1])} real texts, empty ones left out; "
            "give it texts on both sides"
        )
    samples, real = (scoring_model.features(side).numpy() for side in sides)
    return float(mauve.compute_mauve(p_features=real, q_features=samples, seed=seed, verbose=False).mauve)
