"""The evaluation of a model: texts for every way of sampling, and their numbers beside those of real text."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from elf_lightning.errors import UserError
from elf_lightning.evaluation.references import ReferenceTexts, shuffled
from elf_lightning.evaluation.results_file import JsonLines, Row
from elf_lightning.evaluation.settings import EvaluationSettings
from elf_lightning.generation.text_generator import TextGenerator
from elf_lightning.metrics import MetricSuite
from elf_lightning.reporting import Kind, Scores
from elf_lightning.sampling import SamplingSettings

logger = logging.getLogger(__name__)

TextSet = tuple[Sequence[str], ...]
"""What a metric suite scores: texts and, in text-to-text tasks, their references."""


@dataclass
class Evaluation:
    """Generates, scores and writes both down at once; what is written down is not done again.

    All ranks run it together; the first one reads and writes.

    Attributes:
        settings: what to measure.
        ways: ways of sampling by name.
        generator: makes the texts.
        suite: scores them.
        model: an identifier of all that the texts follow from, besides seed and way of sampling. Samples of
            another model are thrown away; its numbers stay in their file and are left out here.
        samples: the file of all texts: `model, setting, index, seed, text, tokens` a line.
        numbers: the file of all numbers, a kind of text a line.
        provenance: where the model comes from, written beside its numbers.
        broadcast: gives the first rank's value to all ranks.
        on_texts: called with the number of texts that have come.
    """

    settings: EvaluationSettings
    ways: Mapping[str, SamplingSettings]
    generator: TextGenerator
    suite: MetricSuite
    model: str
    samples: JsonLines
    numbers: JsonLines
    provenance: Row
    broadcast: Callable[[Any], Any]
    on_texts: Callable[[int], None]
    _texts: dict[tuple[str, int], dict[int, str]] = field(default_factory=dict)
    _scored: dict[str, Scores] = field(default_factory=dict)

    def run(self) -> list[Scores]:
        """A row of numbers for each kind of text, real text first.

        Raises:
            UserError: if there is nothing to score, or a file of results is spoilt.
        """
        self._resume()
        rows = [self._score(name, kind, sets) for name, kind, sets in self._references()]
        for name, way in self.ways.items():
            sets = [self._with_references(self._generated(name, way, seed)) for seed in self.settings.seeds]
            rows.append(self._score(name, "sampled", sets, way))
        return rows

    def texts(self, name: str, seed: int) -> list[str]:
        """The texts of a way of sampling and a seed, once they are there."""
        texts = self._texts[name, seed]
        return [texts[index] for index in range(self.num_samples)]

    @property
    def num_samples(self) -> int:
        """Texts a set."""
        return len(self.generator.indices(self.settings.num_samples))

    @property
    def validation(self) -> ReferenceTexts:
        """Real texts."""
        return ReferenceTexts(self.generator.data)

    @property
    def _unconditional(self) -> bool:
        return self.generator.data.max_condition_length is None

    @property
    def _measured(self) -> Row:
        """What the numbers follow from, besides the texts."""
        settings = self.settings
        scoring_model = asdict(settings.scoring_model) if self._unconditional else None
        return {
            "scoring_model": scoring_model,
            "asked_samples": settings.num_samples,
            "seeds": list(settings.seeds),
        }

    def _resume(self) -> None:
        """Take over what is written down, on every rank the same."""
        found = self.broadcast(self._written() if self.generator.rank == 0 else None)
        if isinstance(found, UserError):
            raise found
        texts, numbers = found
        for row in texts:
            self._texts.setdefault((row["setting"], row["seed"]), {})[row["index"]] = row["text"]
        self._scored = {row["name"]: Scores.from_record(row) for row in numbers}

    def _written(self) -> tuple[list[Row], list[Row]] | UserError:
        """Texts and numbers of this model, all else put in order; or what no rank can go on with."""
        try:
            found, numbers = self.samples.read(), self.numbers.read()
        except UserError as error:
            return error
        texts = [row for row in found if row.get("model") == self.model]
        if others := len(found) - len(texts):
            logger.warning("%d texts of another model in %s are replaced", others, self.samples.path)
        self.samples.replace(texts)
        self.numbers.replace(numbers)
        ours = {"model": self.model, "measured": self._measured}
        return texts, [row for row in numbers if all(row.get(name) == value for name, value in ours.items())]

    def _generated(self, name: str, way: SamplingSettings, seed: int) -> list[str]:
        texts = self._texts.setdefault((name, seed), {})
        missing = [index for index in range(self.num_samples) if index not in texts]
        self.on_texts(self.num_samples - len(missing))
        for batch in self.generator.generate(missing, seed, way, self.settings.batch_size):
            texts |= {sample.index: sample.text for sample in batch}
            if self.generator.rank == 0:
                source = {"model": self.model, "setting": name}
                self.samples.append(source | sample.record() for sample in batch)
            self.on_texts(len(batch))
        return self.texts(name, seed)

    def _references(self) -> Iterator[tuple[str, Kind, list[TextSet]]]:
        if self._unconditional:
            real = self.validation.drawn(len(self.settings.seeds), self.num_samples)
            yield "real validation text", "real", [(texts,) for texts in real]
            yield "the same words, shuffled", "shuffled", [(shuffled(texts),) for texts in real]
        else:
            indices = range(self.num_samples)
            yield "the source, copied", "copied", [self._with_references(self.validation.conditions(indices))]
            mixed = shuffled(self.validation.targets(indices))
            yield "the references, shuffled", "shuffled", [self._with_references(mixed)]

    def _with_references(self, texts: list[str]) -> TextSet:
        return (texts,) if self._unconditional else (texts, self.validation.targets(range(len(texts))))

    def _score(
        self, name: str, kind: Kind, sets: Sequence[TextSet], way: SamplingSettings | None = None
    ) -> Scores:
        """The numbers of all sets; every rank scores its share of the texts."""
        if name in self._scored:
            return self._scored[name]
        rank, ranks = self.generator.rank, self.generator.world_size
        try:
            numbers = [self.suite(*(column[rank::ranks] for column in columns)) for columns in sets]
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        scores = Scores.of(name, kind, len(sets[0][0]), numbers)
        if rank == 0:
            source = self.provenance | {"model": self.model, "measured": self._measured}
            self.numbers.append([source | {"sampling": way and asdict(way)} | scores.record()])
        return scores
