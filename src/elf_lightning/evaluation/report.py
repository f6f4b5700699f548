"""The content of a report on an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from elf_lightning.evaluation.evaluate import Evaluation

NUM_SPECIMENS, NUM_TRAJECTORIES = 6, 3
"""Number of texts, and of animated texts, in a report."""


def report_of(
    evaluation: Evaluation,
    scores: Sequence[Scores],
    title: str,
    details: Mapping[str, str],
    curves: Mapping[str, Curve],
) -> Report:
    """The report on a finished evaluation, with texts of the configuration closest to real text.

    Args:
        evaluation: used to sample a few texts again, on this rank, to show how they emerge.
        scores: its results.
        title: of the page.
        details: what determines the scores, by name.
        curves: columns of the training log.
    """
    best = closest_to_real(scores).name
    suite = evaluation.suite
    return Report(
        title=title,
        details=details,
        scoring_model=suite.scoring_model,
        rows=scores,
        notes=suite.notes,
        curves=curves,
        specimens=_specimens(evaluation, best),
        trajectory=_trajectory(evaluation, best),
    )


def _specimens(evaluation: Evaluation, name: str) -> list[Specimen]:
    """The first texts of the first seed, beside their references or other real texts."""
    references = evaluation.references
    generated = evaluation.texts(name, evaluation.settings.seeds[0])
    if references is None:
        return [Specimen(text, "") for text in generated[:NUM_SPECIMENS]]
    indices = range(min(NUM_SPECIMENS, evaluation.num_samples, len(references)))
    if sources := references.conditions(indices):
        return list(map(Specimen, generated, references.targets(indices), sources))
    return list(map(Specimen, generated, references.drawn(1, len(indices))[0]))


def _trajectory(evaluation: Evaluation, name: str) -> str:
    configuration, generator = evaluation.configurations[name], evaluation.generator
    requests = evaluation.requests(range(min(NUM_TRAJECTORIES, evaluation.num_samples)))
    prompt, infill = generator.batch(requests)
    steps = shown_steps(configuration.num_steps)
    samples = generator.sample_batch(
        prompt, evaluation.settings.seeds[0], infill, configuration, trajectory_steps=steps
    )
    paths = [
        TextPath.of(f"text {sample.index}", sample.stage_tokens, generator.codec.token_texts)
        for sample in samples
    ]
    times = [stage.time for stage in samples[0].stages]
    return trajectory_page("How texts emerge", {"sampling": name}, times, paths)
