"""What an evaluation found, as the content of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from elf_lightning.evaluation.evaluate import Evaluation
from elf_lightning.reporting import (
    Curve,
    Report,
    Scores,
    Specimen,
    TextPath,
    closest_to_real,
    shown_steps,
    trajectory_page,
)

SPECIMENS, PATHS = 6, 3
"""Texts on the report: to read, and to see emerge."""


def report_of(
    evaluation: Evaluation,
    rows: Sequence[Scores],
    title: str,
    details: Mapping[str, str],
    curves: Mapping[str, Curve],
) -> Report:
    """The report on an evaluation that has run; texts to read are of the way closest to real text.

    Args:
        evaluation: on this rank, which samples a few texts again to show their way.
        rows: what it found.
        title: of the page.
        details: what the numbers follow from, by name.
        curves: columns of the training log.
    """
    best = closest_to_real(rows).name
    suite = evaluation.suite
    return Report(
        title=title,
        details=details,
        scoring_model=suite.scoring_model,
        rows=rows,
        notes=suite.notes,
        curves=curves,
        specimens=_specimens(evaluation, best),
        trajectory=_trajectory(evaluation, best),
    )


def _specimens(evaluation: Evaluation, name: str) -> list[Specimen]:
    """The first texts of the first seed beside real ones: references, or any."""
    validation = evaluation.validation
    indices = range(min(SPECIMENS, evaluation.num_samples, len(validation)))
    generated = evaluation.texts(name, evaluation.settings.seeds[0])
    if sources := validation.conditions(indices):
        return list(map(Specimen, generated, validation.targets(indices), sources))
    return list(map(Specimen, generated, validation.drawn(1, len(indices))[0]))


def _trajectory(evaluation: Evaluation, name: str) -> str:
    way, generator = evaluation.ways[name], evaluation.generator
    indices = range(min(PATHS, evaluation.num_samples))
    samples = generator.trajectory(indices, evaluation.settings.seeds[0], way, shown_steps(way.num_steps))
    paths = [
        TextPath.of(f"text {sample.index}", sample.stage_tokens, generator.detokenizer.pieces)
        for sample in samples
    ]
    times = [stage.time for stage in samples[0].stages]
    return trajectory_page("How texts emerge", {"sampling": name}, times, paths)
