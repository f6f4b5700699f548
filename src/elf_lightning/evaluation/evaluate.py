"""Generates texts for each sampling configuration and scores them beside real text."""

import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn
from rich.progress import Progress

from elf_lightning.data import ELFDataModule, Example
from elf_lightning.errors import UserError, errors_about
from elf_lightning.evaluation.likelihood import measure_likelihood
from elf_lightning.evaluation.references import ReferenceTexts, shuffled
from elf_lightning.evaluation.results_file import ResultsFile, Row, model_identity
from elf_lightning.evaluation.settings import EvaluationSettings
from elf_lightning.generation import Request, TextGenerator, requests_from_data
from elf_lightning.metrics import MetricSuite, bleu_tokenizer
from elf_lightning.metrics.perplexity import LIKELIHOOD_NUMBERS
from elf_lightning.reporting import Kind, Scores, score_table
from elf_lightning.sampling.settings import DEFAULT_TRAJECTORIES, SamplingSettings
from elf_lightning.terminal import get_console
from elf_lightning.whole_file import write_whole

logger = logging.getLogger(__name__)

TextSet = tuple[Sequence[str], ...]
"""Texts and, in text-to-text tasks, their references: the arguments of a metric suite."""


@dataclass(frozen=True)
class _Texts:
    """The texts of a row of the table."""

    name: str
    kind: Kind
    sets: Sequence[TextSet]
    examples: Sequence[Sequence[int]] = ()  # of real text, the indices of each set
    configuration: SamplingSettings | None = None  # of generated text


@dataclass
class Evaluation:
    """Generates and scores texts, and saves both immediately, so that an interrupted evaluation can resume.

    Runs on all ranks together; rank 0 reads and writes the files.

    Raises:
        UserError: if a package or the scoring model cannot be loaded, or there are no references for a
            text-to-text model; by `run`, if all texts are empty, or earlier results damaged.
    """

    generator: TextGenerator  # `distributed` if there are several ranks
    settings: EvaluationSettings
    folder: Path  # for `samples.jsonl`, `metrics.jsonl` and `report.html`
    references: ReferenceTexts | None = None  # real text to compare with; optional for unconditional text
    checkpoint: str = ""  # source of the model, written to the results
    precision: str = "32-true"  # of the network, as in Trainer
    show_progress: bool = True  # in a terminal

    def __post_init__(self) -> None:
        generator, settings = self.generator, self.settings
        self.rank, self.world_size = generator.ranks
        self.configurations = settings.configurations(generator.config.default_sampling)
        self.conditional = generator.codec.max_condition_length is not None
        self.pairs = self.references if self.conditional else None
        self.num_samples = settings.num_samples
        if self.pairs is not None:
            self.num_samples = min(self.num_samples, len(self.pairs))
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
        bound = settings.likelihood
        self.likelihood_notes = {"NLL bound": bound.short_name} if bound else {}
        numbers = [number for metric in self.suite.metrics for number in metric.numbers]
        measured = {number.name: number for number in (*numbers, *(LIKELIHOOD_NUMBERS if bound else ()))}
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
            scores = [*map(self._score, self._compared()), *self.published]
            references = [] if self.pairs is None else [self.pairs.targets(range(self.num_samples))]
            for name, configuration in self.configurations.items():
                sets = []
                for seed in self.settings.seeds:
                    for count in self._generate(name, configuration, seed):
                        progress.advance(task, count)
                    sets.append((self.texts(name, seed), *references))
                scores.append(self._score(_Texts(name, "sampled", sets, configuration=configuration)))
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

    def _resume(self) -> None:
        """Read the saved results of this model, on rank 0 for all ranks, and remove what is not usable."""
        settings, references, generator = self.settings, self.references, self.generator
        weights, description = generator.network.state_dict(), generator.config.to_dict()
        del description["sampling"], description["step"]  # which are not part of the model's identity
        description |= {"data": references and references.key, "precision": self.precision}
        # Kept in files of their own, but texts depend on them.
        if generator.repetition_direction is not None:
            weights["repetition_direction"] = generator.repetition_direction
        if generator.codec.words is not None:
            description["words"] = [*generator.codec.words]
        self.source = {
            "model": model_identity(weights, description),
            "measured": {  # what determines the scores besides the texts
                "scoring_model": None if self.conditional else asdict(settings.scoring_model),
                "asked_samples": settings.num_samples,
                "seeds": list(settings.seeds),
                "metrics": list(settings.metrics),
                **({"cut_answers": True} if settings.cut_answers else {}),
                **({"likelihood": asdict(settings.likelihood)} if settings.likelihood else {}),
            },
        }
        found = self.generator.gathered([self._saved() if self.rank == 0 else ([], [])])[0]
        if isinstance(found, UserError):
            raise found
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
                logger.warning(
                    "%s: %d texts of another model, corpus or precision are replaced",
                    self.samples.path,
                    others,
                )
            self.samples.replace(texts)
            self.numbers.replace(numbers)
        except UserError as error:
            return error
        return texts, [row for row in numbers if row.items() >= self.source.items()]

    def _generate(self, name: str, configuration: SamplingSettings, seed: int) -> Iterator[int]:
        """Generate missing texts; yields the number of texts after each batch."""
        texts = self._texts.setdefault((name, seed), {})
        missing = [index for index in range(self.num_samples) if index not in texts]
        yield self.num_samples - len(missing)
        if not missing:
            return
        size = self.settings.batch_size
        if self.generator.needs_measuring(configuration):
            requests = self.requests(range(DEFAULT_TRAJECTORIES))
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

    def _compared(self) -> Iterator[_Texts]:
        """The texts to compare with."""
        if self.pairs is not None:
            indices = range(self.num_samples)
            copied, targets = self.pairs.conditions(indices), self.pairs.targets(indices)
            if self.settings.likelihood is not None:
                yield _Texts("the references", "other", [(targets, targets)], [indices])
            yield _Texts("the source, copied", "copied", [(copied, targets)])
            yield _Texts("the references, shuffled", "shuffled", [(shuffled(targets), targets)])
        elif self.references is not None:
            drawn = self.references.drawn_indices(len(self.settings.seeds), self.num_samples)
            real = [self.references.targets(indices) for indices in drawn]
            yield _Texts("real validation text", "real", [(texts,) for texts in real], drawn)
            yield _Texts("the same words, shuffled", "shuffled", [(shuffled(texts),) for texts in real])

    def _score(self, row: _Texts) -> Scores:
        """The scores over all sets; each rank scores a part of the texts."""
        if row.name in self._scored:
            return self._scored[row.name]
        part = slice(self.rank, None, self.world_size)
        with errors_about(row.name):
            numbers = [self.suite(*(column[part] for column in columns)) for columns in row.sets]
        if self.settings.likelihood is not None:
            for number, values in enumerate(numbers):
                measured = self._measured_texts(row, number)[part]
                values |= measure_likelihood(self.generator, measured, self.settings.likelihood).numbers()
        num_empty = sum(not text.strip() for texts, *_ in row.sets for text in texts)
        scores = Scores.of(row.name, row.kind, len(row.sets[0][0]), numbers, num_empty)
        if self.rank == 0:
            source = {
                "checkpoint": self.checkpoint,
                "step": self.generator.config.step,
                "scoring_model": self.suite.scoring_model,
                **self.source,
                "sampling": row.configuration and asdict(row.configuration),
            }
            self.numbers.append([source | scores.record()])
        return scores

    def _measured_texts(self, row: _Texts, number: int) -> Sequence[str] | Sequence[Example]:
        """What the likelihood is measured on: a set's first texts or, if real, their own examples."""
        assert self.settings.likelihood is not None
        texts, codec = row.sets[number][0][: self.settings.likelihood.num_texts], self.generator.codec
        if row.examples and self.references is not None:
            return self.references.examples(row.examples[number][: len(texts)])
        if self.pairs is None:
            return texts
        ids = [np.array(codec.sequence(text, codec.max_length)) for text in texts]
        pairs = self.pairs.examples(range(len(ids)))
        return [replace(pair, input_ids=one) for pair, one in zip(pairs, ids, strict=True)]

    def _show(self, scores: list[Scores]) -> None:
        from elf_lightning.evaluation.report import page_of

        console, page = get_console(), self.folder / "report.html"
        bounds = {number.name for number in LIKELIHOOD_NUMBERS}
        tables = [(False, self.suite.scoring_model, self.suite.notes)]
        if self.settings.likelihood is not None:  # a table of its own: all columns would not fit a terminal
            tables.append((True, None, self.likelihood_notes))
        for bound, model, notes in tables:
            kept = [{n: one for n, one in row.metrics.items() if (n in bounds) is bound} for row in scores]
            part = [
                replace(row, metrics=metrics) for row, metrics in zip(scores, kept, strict=True) if metrics
            ]
            console.print(score_table(part, model, notes))
        write_whole(page, page_of(self, scores))
        for path in (page, self.numbers.path, self.samples.path):
            console.print(f"written: {path}", style="dim", soft_wrap=True)


def evaluate(
    generator: TextGenerator,
    settings: EvaluationSettings,
    folder: str | Path,
    references: ReferenceTexts | None = None,
    **options: Any,
) -> list[Scores]:
    """Evaluate a model; arguments and errors as of `Evaluation`."""
    return Evaluation(generator, settings, Path(folder), references, **options).run()


def evaluation_in(trainer: Trainer, generator: TextGenerator, settings: EvaluationSettings) -> Evaluation:
    """The evaluation of a running Trainer's model, with results in the run's folder.

    Until the Trainer restores the previous signal handlers, SIGTERM acts as Ctrl-C: the Trainer's own handler
    would only wait for the end of a training step.
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
