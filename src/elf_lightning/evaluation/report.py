"""The content of a report on an evaluation."""

from collections.abc import Sequence

from elf_lightning.evaluation.evaluate import Evaluation
from elf_lightning.reporting import Report, Scores, Specimen, closest_to_real, read_curves, report_page
from elf_lightning.reporting.trajectory import TextPath, shown_steps, trajectory_page

NUM_SPECIMENS, NUM_TRAJECTORIES = 6, 3
"""Number of texts, and of animated texts, in a report."""


def page_of(evaluation: Evaluation, scores: Sequence[Scores]) -> str:
    """The page on a finished evaluation, with texts of the configuration closest to real text.

    A few texts are sampled again, on this rank, to show how they emerge.
    """
    best, suite, config = closest_to_real(scores).name, evaluation.suite, evaluation.generator.config
    parameters = sum(weight.numel() for weight in evaluation.generator.network.parameters())
    seeds = ", ".join(map(str, evaluation.settings.seeds))
    details = {
        "model": f"{parameters / 1e6:.1f}M parameters, {config.step} training steps",
        "checkpoint": evaluation.checkpoint,
        "scoring model": suite.scoring_model or "",
        "texts": f"{evaluation.num_samples} for each seed ({seeds}), up to {config.max_length} tokens",
    }
    content = Report(
        title=evaluation.folder.resolve().name,
        details={name: value for name, value in details.items() if value},
        scoring_model=suite.scoring_model,
        rows=scores,
        notes={**suite.notes, **evaluation.likelihood_notes},
        curves=read_curves(evaluation.folder),
        specimens=_specimens(evaluation, best),
        trajectory=_trajectory(evaluation, best),
    )
    return report_page(content)


def _specimens(evaluation: Evaluation, name: str) -> list[Specimen]:
    """The first texts of the first seed, beside their references or other real texts."""
    references = evaluation.references
    generated = evaluation.texts(name, evaluation.settings.seeds[0])
    if references is None:
        return [Specimen(text) for text in generated[:NUM_SPECIMENS]]
    indices = range(min(NUM_SPECIMENS, evaluation.num_samples, len(references)))
    if sources := references.conditions(indices):
        return list(map(Specimen, generated, references.targets(indices), sources))
    return list(map(Specimen, generated, references.drawn(1, len(indices))[0]))


def _trajectory(evaluation: Evaluation, name: str) -> str:
    configuration, generator = evaluation.configurations[name], evaluation.generator
    requests = evaluation.requests(range(min(NUM_TRAJECTORIES, evaluation.num_samples)))
    prompt, infill = generator.batch(requests)
    steps, seed = shown_steps(configuration.num_steps), evaluation.settings.seeds[0]
    samples = generator.sample_batch(prompt, seed, infill, configuration, trajectory_steps=steps)
    texts = generator.codec.token_texts
    paths = [TextPath.of(f"text {sample.index}", sample.stage_tokens, texts) for sample in samples]
    times = [stage.time for stage in samples[0].stages]
    return trajectory_page("How texts emerge", {"sampling": name}, times, paths)
