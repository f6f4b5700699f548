"""Loaders of training, validation and prompt batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from elf_lightning.batch import PromptBatch, TokenBatch
from elf_lightning.data.checks import check_same_batches, whole_batches
from elf_lightning.data.collate import Collate
from elf_lightning.data.examples import CollateLatents, CollatePrompts, EmptyRows, Examples
from elf_lightning.data.position import Position
from elf_lightning.data.prepare import Preparation
from elf_lightning.data.rows import Row
from elf_lightning.data.sampler import EpochSampler, ShardSampler
from elf_lightning.data.store import LatentsStore
from elf_lightning.data.stream import StreamedExamples, StreamSettings

CollateRows = Callable[[Sequence[Row]], TokenBatch | PromptBatch]


@dataclass(frozen=True)
class Loaders:
    """What the loaders of one process have in common.

    Attributes:
        preparation: the rows.
        collate: makes batches of them.
        cached: where latents are read from; None leaves embedding to the device.
        device: where batches go.
        batch_size: rows a process and micro-batch.
        num_workers: processes that read batches.
        rank: this process's number.
        world_size: number of processes.
    """

    preparation: Preparation
    collate: Collate
    cached: LatentsStore | None
    device: torch.device
    batch_size: int
    num_workers: int
    rank: int
    world_size: int

    def train(
        self, position: Position, seed: int, label_drop_probability: float, bucket_step: int | None
    ) -> DataLoader[Row]:
        """Shuffled training rows, from a position on.

        Args:
            position: the batch to begin with.
            seed: of the order of rows and of label drop.
            label_drop_probability: how often a row's condition is hidden from its target.
            bucket_step: brings rows of like length together and makes batches as wide as their longest row,
                rounded up to a multiple of this; None makes all as wide as the longest allowed.

        Raises:
            UserError: if there are fewer rows than one batch takes, or the position counts other batches.
        """
        check_same_batches(position, self.batch_size, self.world_size)
        examples = self._training_examples(seed, label_drop_probability)
        sampler = EpochSampler(
            len(examples), self.batch_size, seed, self.rank, self.world_size, position.epoch, position.batch,
            shuffle=isinstance(examples, Examples),
            lengths=self.preparation.lengths("train") if bucket_step else None,
        )  # fmt: skip
        whole_batches(len(examples), self.batch_size, self.world_size)
        collate = replace(self.collate, width_step=bucket_step)
        return self._loader(examples, sampler, self._with_latents(collate, "train"))

    def validation(self) -> DataLoader[Row]:
        """Held-out rows in order; over several processes, the same number on each."""
        examples = Examples(self.preparation.rows("validation"))
        sampler = ShardSampler(len(examples), self.rank, self.world_size, even=True)
        return self._loader(examples, sampler, self._with_latents(self.collate, "validation"))

    def prompts(self, count: int) -> DataLoader[Row]:
        """Rows to generate: empty ones, or in text-to-text the first validation conditions."""
        conditional = self.collate.max_condition_length is not None
        rows = self.preparation.rows("validation") if conditional else EmptyRows(count)
        sampler = ShardSampler(min(count, len(rows)), self.rank, self.world_size, even=False)
        return self._loader(Examples(rows), sampler, CollatePrompts(self.collate))

    def _training_examples(self, seed: int, label_drop_probability: float) -> Examples | StreamedExamples:
        preparation = self.preparation
        if preparation.source.streamed_rows is None:
            return Examples(preparation.rows("train"), seed, label_drop_probability)
        return StreamedExamples(
            StreamSettings(
                preparation.source, preparation.tokenize, self.batch_size, self.rank, self.world_size, seed,
                label_drop_probability,
            )
        )  # fmt: skip

    def _with_latents(self, collate: Collate, split: str) -> CollateRows:
        if self.cached is None:
            return collate
        return CollateLatents(collate, self.cached.split(split, self.device))

    def _loader(self, examples: Dataset[Row], sampler: Sampler[int], collate: CollateRows) -> DataLoader[Row]:
        return DataLoader(
            examples,
            batch_size=self.batch_size,
            sampler=sampler,
            collate_fn=collate,
            num_workers=self.num_workers,
            pin_memory=self.device.type == "cuda",
            persistent_workers=self.num_workers > 0,
        )
