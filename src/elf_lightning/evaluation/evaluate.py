"""Generates texts for each sampling configuration and scores them beside real text."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn
from rich.progress import Progress

from elf_lightning.data import ELFDataModule
from elf_lightning.data.examples import Example
from elf_lightning.errors import UserError
from elf_lightning.evaluation.likelihood import measure_likelihood
from elf_lightning.evaluation.references import ReferenceTexts, shuffled
from elf_lightning.evaluation.results_file import ResultsFile, Row, model_identity
from elf_lightning.evaluation.settings import EvaluationSettings
from elf_lightning.generation import Request, TextGenerator, requests_from_data
from elf_lightning.metrics import MetricSuite, bleu_tokenizer
from elf_lightning.metrics.perplexity import LIKELIHOOD_NUMBERS
from elf_lightning.ranks import gathered, rank_and_world_size
from elf_lightning.reporting import Kind, Scores, score_table
from elf_lightning.sampling import SamplingSettings
from elf_lightning.sampling.settings import DEFAULT_TRAJECTORIES
from elf_lightning.terminal import get_console
from elf_lightning.whole_file import write_whole

logger = logging.getLogger(__name__)

TextSet = tuple[Sequence[str], ...]
"""Texts and, in text-to-text tasks, their references: the arguments of a metric suite."""


@dataclass
class Evaluation:
    """Generates and scores texts, and saves both immediately, so that an interrupted evaluation can resume.

    Runs on all ranks together; rank 0 reads and writes the files.

    Args:
        generator: the model; `distributed` if there are several ranks.
        settings: what to measure.
        folder: for `samples.jsonl`, `metrics.jsonl` and `report.html`.
        references: real text to compare with; optional for unconditional text.
        checkpoint: source of the model, written to the results.
        precision: of the network, as in Trainer.
        show_progress: show a progress bar in a terminal.

    Raises:
        UserError: if the scoring model or the package of a metric cannot be loaded, or there are no
            references for a text-to-text model; by `run`, if all texts are empty, or earlier results damaged.
    """

    generator: TextGenerator
    settings: EvaluationSettings
    folder: Path
    references: ReferenceTexts | None = None
    checkpoint: str = ""
    precision: str = "32-true"
    show_progress: bool = True

    def __post_init__(self) -> None:
        generator, settings = self.generator, self.settings
        self.rank, self.world_size = rank_and_world_size() if generator.distributed else (0, 1)
        self.configurations = settings.configurations(generator.config.default_sampling)
        self.conditional = generator.codec.max_condition_length is not None
        self.pairs = self.references if self.conditional else None
        self.num_samples = self._limited(settings.num_samples)
        if self.pairs is not None:
            tokenizer = bleu_tokenizer(self.pairs.targets(range(self.num_samples)))
            self.suite = MetricSuite.text_to_text(generator.device, settings.metrics, tokenizer)
        elif self.conditional:
            raise UserError(
                "evaluation of a text-to-text model needs validation pairs; give them with --config or "
                "--data.source"
            )
        else:
            scoring_model = settings.scoring_model.load()
            self.suite = MetricSuite.unconditional(scoring_model, generator.device, settings.metrics)
        measured = {number.name: number for metric in self.suite.metrics for number in metric.numbers}
        self.notes = dict(self.suite.notes)
        if settings.likelihood is not None:
            measured |= {number.name: number for number in LIKELIHOOD_NUMBERS}
            self.notes["NLL bound"] = settings.likelihood.short_name
        self.published = [settings.published.scores(measured)] if settings.published else []
        self.samples = ResultsFile(self.folder / "samples.jsonl")
        self.numbers = ResultsFile(self.folder / "metrics.jsonl")
        self._texts: dict[tuple[str, int], dict[int, str]] = {}
        self._scored: dict[str, Scores] = {}

    def run(self) -> list[Scores]:
        """Generate, score, print and write; returns the scores of each kind of text, real text first."""
        self._resume()
        shown = self.show_progress and self.rank == 0
        with Progress(console=get_console(), transient=True, disable=not shown) as progress:
            total = self.num_samples * len(self.settings.seeds) * len(self.configurations)
            task = progress.add_task("texts", total=total)
            scores = [
                self._score(name, kind, sets, real=real) for name, kind, sets, real in self._reference_sets()
            ]
            scores += self.published
            for name, configuration in self.configurations.items():
                sets = []
                for seed in self.settings.seeds:
                    for count in self._generate(name, configuration, seed):
                        progress.advance(task, count)
                    sets.append(self._with_references(self.texts(name, seed)))
                scores.append(self._score(name, "sampled", sets, configuration))
        if self.rank == 0:
            self._show(scores)
        return scores

    def texts(self, name: str, seed: int) -> list[str]:
        """The generated texts of a sampling configuration and a seed."""
        texts = self._texts[name, seed]
        return [texts[index] for index in range(self.num_samples)]

    def requests(self, indices: Sequence[int]) -> list[Request]:
        """Requests for unconditional texts, or for answers to validation conditions."""
        return requests_from_data(None if self.pairs is None else self.pairs.data, indices)

    def _limited(self, num: int) -> int:
        """The number, in text-to-text tasks at most one per validation pair."""
        return num if self.pairs is None else min(num, len(self.pairs))

    # Saved results

    def _resume(self) -> None:
        """Read the saved results of this model, on rank 0 for all ranks, and remove what is not usable."""
        settings, references = self.settings, self.references
        # The sampling configuration is not part of the model's identity.
        described = self.generator.config.to_dict().items()
        description = {name: value for name, value in described if name not in ("sampling", "step")}
        description |= {"data": references and references.key, "precision": self.precision}
        self.source = {
            "model": model_identity(self.generator.network.state_dict(), description),
            "measured": {  # what determines the scores besides the texts
                "scoring_model": None if self.conditional else asdict(settings.scoring_model),
                "asked_samples": settings.num_samples,
                "seeds": list(settings.seeds),
                "metrics": list(settings.metrics),
                **({"cut_answers": True} if settings.cut_answers else {}),
                **({"likelihood": asdict(settings.likelihood)} if settings.likelihood else {}),
            },
        }
        found = self._saved() if self.rank == 0 else None
        if self.generator.distributed:
            found = gathered([found])[0]
        if isinstance(found, UserError):
            raise found
        assert found is not None
        for row in found[0]:
            texts = self._texts.setdefault((row["setting"], row["seed"]), {})
            texts[row["index"]] = self._text(row["text"], row.get("tokens", []))
        self._scored = {row["name"]: Scores.from_record(row) for row in found[1]}

    def _saved(self) -> tuple[list[Row], list[Row]] | UserError:
        """Saved texts and scores, or an error to raise on all ranks."""
        try:
            found, numbers = self.samples.read(), self.numbers.read()
            texts = [row for row in found if row.get("model") == self.source["model"]]
            if others := len(found) - len(texts):
                logger.warning("%s: %d texts of another model are replaced", self.samples.path, others)
            self.samples.replace(texts)
            self.numbers.replace(numbers)
        except UserError as error:
            return error
        return texts, [row for row in numbers if row.items() >= self.source.items()]

    # Texts

    def _generate(self, name: str, configuration: SamplingSettings, seed: int) -> Iterator[int]:
        """Generate missing texts; yields the number of texts after each batch."""
        texts = self._texts.setdefault((name, seed), {})
        missing = [index for index in range(self.num_samples) if index not in texts]
        yield self.num_samples - len(missing)
        if not missing:
            return
        size = self.settings.batch_size
        if self.generator.needs_measuring(configuration):
            requests = self.requests(range(self._limited(DEFAULT_TRAJECTORIES)))
            self.generator.measure_repetition(requests, configuration, batch_size=size)
        for batch in self.generator.generate(self.requests(missing), seed, configuration, size):
            texts |= {sample.index: self._text(sample.text, sample.tokens) for sample in batch}
            if self.rank == 0:
                source = {"model": self.source["model"], "setting": name}
                self.samples.append(source | sample.record() for sample in batch)
            yield len(batch)

    def _text(self, text: str, tokens: list[int]) -> str:
        """The text to score, which may be the beginning of an answer."""
        codec = self.generator.codec
        if not self.settings.cut_answers or codec.max_condition_length is None:
            return text
        limit = codec.max_length - codec.max_condition_length
        return text if len(tokens) <= limit else codec.decode([tokens[:limit]])[0]

    def _reference_sets(self) -> Iterator[tuple[str, Kind, list[TextSet], list[Sequence[int]]]]:
        """Name, kind and texts of each row and, for real text, the indices of its examples."""
        if self.pairs is not None:
            indices = range(self.num_samples)
            copied, targets = self.pairs.conditions(indices), self.pairs.targets(indices)
            if self.settings.likelihood is not None:
                yield "the references", "other", [self._with_references(targets)], [indices]
            yield "the source, copied", "copied", [self._with_references(copied)], []
            yield "the references, shuffled", "shuffled", [self._with_references(shuffled(targets))], []
        elif self.references is not None:
            drawn = self.references.drawn_indices(len(self.settings.seeds), self.num_samples)
            real = [self.references.targets(indices) for indices in drawn]
            yield "real validation text", "real", [(texts,) for texts in real], [*drawn]
            yield "the same words, shuffled", "shuffled", [(shuffled(texts),) for texts in real], []

    def _with_references(self, texts: list[str]) -> TextSet:
        return (texts,) if self.pairs is None else (texts, self.pairs.targets(range(len(texts))))

    # Numbers

    def _score(
        self,
        name: str,
        kind: Kind,
        sets: Sequence[TextSet],
        configuration: SamplingSettings | None = None,
        real: Sequence[Sequence[int]] = (),
    ) -> Scores:
        """The scores over all sets; each rank scores a part of the texts."""
        if name in self._scored:
            return self._scored[name]
        part = slice(self.rank, None, self.world_size)
        try:
            numbers = [self.suite(*(column[part] for column in columns)) for columns in sets]
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        if self.settings.likelihood is not None:
            for number, values in enumerate(numbers):
                measured = self._measured_texts(sets[number][0], real[number] if real else None)[part]
                values |= measure_likelihood(self.generator, measured, self.settings.likelihood).numbers()
        num_empty = sum(not text.strip() for texts, *_ in sets for text in texts)
        scores = Scores.of(name, kind, len(sets[0][0]), numbers, num_empty)
        if self.rank == 0:
            source = {
                "checkpoint": self.checkpoint,
                "step": self.generator.config.step,
                "scoring_model": self.suite.scoring_model,
                **self.source,
                "sampling": configuration and asdict(configuration),
            }
            self.numbers.append([source | scores.record()])
        return scores

    def _measured_texts(
        self, texts: Sequence[str], indices: Sequence[int] | None
    ) -> Sequence[str] | Sequence[Example]:
        """What the likelihood is measured on: the first texts or, if real, their own examples."""
        assert self.settings.likelihood is not None
        texts, codec = texts[: self.settings.likelihood.num_texts], self.generator.codec
        if indices is not None and self.references is not None:
            return self.references.examples(indices[: len(texts)])
        if self.pairs is None:
            return texts
        ids = [np.array(codec.sequence(text, codec.max_length)) for text in texts]
        pairs = self.pairs.examples(range(len(ids)))
        return [replace(pair, input_ids=one) for pair, one in zip(pairs, ids, strict=True)]

    def _show(self, scores: list[Scores]) -> None:
        from elf_lightning.evaluation.report import report_of
        from elf_lightning.reporting import report_page

        console, page = get_console(), self.folder / "report.html"
        names = {number.name for number in LIKELIHOOD_NUMBERS}
        console.print(score_table(_with(scores, names, False), self.suite.scoring_model, self.suite.notes))
        if self.settings.likelihood is not None:  # a table of its own: all columns would not fit a terminal
            notes = {name: note for name, note in self.notes.items() if name not in self.suite.notes}
            console.print(score_table(_with(scores, names, True), None, notes))
        write_whole(page, report_page(report_of(self, scores)))
        for path in (page, self.numbers.path, self.samples.path):
            console.print(f"written: {path}", style="dim", soft_wrap=True)


def _with(scores: Sequence[Scores], names: Collection[str], chosen: bool) -> list[Scores]:
    """The rows with these numbers, or with all others."""
    return [
        replace(row, metrics={name: one for name, one in row.metrics.items() if (name in names) is chosen})
        for row in scores
    ]


def evaluate(
    generator: TextGenerator,
    settings: EvaluationSettings,
    folder: str | Path,
    references: ReferenceTexts | None = None,
    **options: Any,
) -> list[Scores]:
    """Evaluate a model; arguments and errors are those of `Evaluation` and its `run`."""
    return Evaluation(generator, settings, Path(folder), references, **options).run()


def evaluation_in(trainer: Trainer, generator: TextGenerator, settings: EvaluationSettings) -> Evaluation:
    """The evaluation of a running Trainer's model, with results in the run's folder; errors as `Evaluation`.

    Until the Trainer restores the previous signal handlers, SIGTERM acts as Ctrl-C: results are saved
    immediately, and the Trainer's own handler would only wait for the end of a training step.
    """
    if not generator.config.step:
        rank_zero_warn("the model is not trained; give a checkpoint with --ckpt_path")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    data = trainer.datamodule  # type: ignore[attr-defined]
    references = ReferenceTexts(data) if isinstance(data, ELFDataModule) else None
    folder, checkpoint = Path(trainer.default_root_dir), str(trainer.ckpt_path or "")
    shown = trainer.progress_bar_callback is not None
    return Evaluation(generator, settings, folder, references, checkpoint, str(trainer.precision), shown)
