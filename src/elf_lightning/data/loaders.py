"""Loaders of training, validation and prompt batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from elf_lightning.batch import PromptBatch, TokenBatch
from elf_lightning.data.batch_size import whole_batches
from elf_lightning.data.collate import Collate, CollatePrompts
from elf_lightning.data.examples import EmptyExamples, Example, Examples
from elf_lightning.data.label_drop import LabelDrop
from elf_lightning.data.latents import CollateLatents, LatentsStore
from elf_lightning.data.prepare import Preparation
from elf_lightning.data.resume import Position
from elf_lightning.data.sampler import EpochSampler, ShardSampler
from elf_lightning.data.stream import StreamedExamples

MakeBatch = Callable[[Sequence[Example]], TokenBatch | PromptBatch]


@dataclass(eq=False)
class KeyedExamples(Dataset[Example]):
    """A split's examples by key (`epoch * len + index`), each with its label drop.

    Args:
        examples: the split's examples.
        label_drop: which conditions are hidden from their targets.
    """

    examples: Examples
    label_drop: LabelDrop = field(default_factory=LabelDrop)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, key: int) -> Example:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[int]) -> list[Example]:
        examples = self.examples.read([key % len(self) for key in keys])
        return [
            self.label_drop(example, key // len(self)) for example, key in zip(examples, keys, strict=True)
        ]


@dataclass(frozen=True)
class Loaders:
    """What the loaders of one process have in common.

    Attributes:
        preparation: the examples.
        collate: makes batches of them.
        cached: where latents are read from; None embeds them on the device.
        device: where batches go.
        batch_size: examples per process and micro-batch.
        num_workers: processes that read batches.
        rank: index of this process.
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
        self, position: Position, seed: int, label_drop: LabelDrop, bucket_step: int | None
    ) -> DataLoader[Example]:
        """Shuffled training examples, from a position on.

        Args:
            position: the batch to begin with.
            seed: of the order of examples.
            label_drop: which conditions are hidden from their targets.
            bucket_step: bring examples of similar length together and make batches as wide as their longest
                one, rounded up to a multiple of this; None makes all as wide as the longest allowed.

        Raises:
            UserError: if the corpus is smaller than one batch, or the position counts other batches.
        """
        position.check_batches(self.batch_size, self.world_size)
        examples = self._training_examples(seed, label_drop)
        whole_batches(len(examples), self.batch_size, self.world_size)
        sampler = EpochSampler(
            len(examples), self.batch_size, seed, self.rank, self.world_size, position.epoch, position.batch,
            shuffle=isinstance(examples, KeyedExamples),
            lengths=self.preparation.examples("train").lengths() if bucket_step else None,
        )  # fmt: skip
        collate = replace(self.collate, width_step=bucket_step)
        return self._loader(examples, sampler, self._with_latents(collate, "train"))

    def validation(self) -> DataLoader[Example]:
        """Validation examples in order; over several processes, the same number on each."""
        examples = KeyedExamples(self.preparation.examples("validation"))
        sampler = ShardSampler(len(examples), self.rank, self.world_size, even=True)
        return self._loader(examples, sampler, self._with_latents(self.collate, "validation"))

    def prompts(self, count: int) -> DataLoader[Example]:
        """Prompts to generate from: empty ones, or in text-to-text the first validation conditions."""
        conditional = self.collate.max_condition_length is not None
        examples: Examples = self.preparation.examples("validation") if conditional else EmptyExamples(count)
        sampler = ShardSampler(min(count, len(examples)), self.rank, self.world_size, even=False)
        return self._loader(KeyedExamples(examples), sampler, CollatePrompts(self.collate))

    def _training_examples(self, seed: int, label_drop: LabelDrop) -> KeyedExamples | StreamedExamples:
        preparation = self.preparation
        if preparation.source.streamed_examples is None:
            return KeyedExamples(preparation.examples("train"), label_drop)
        return StreamedExamples(
            preparation.source, preparation.tokenize, self.batch_size, self.rank, self.world_size, seed,
            label_drop,
        )  # fmt: skip

    def _with_latents(self, collate: Collate, split: str) -> MakeBatch:
        if self.cached is None:
            return collate
        return CollateLatents(collate, self.cached.split(split, self.device))

    def _loader(
        self, examples: Dataset[Example], sampler: Sampler[int], collate: MakeBatch
    ) -> DataLoader[Example]:
        return DataLoader(
            examples,
            batch_size=self.batch_size,
            sampler=sampler,
            collate_fn=collate,
            num_workers=self.num_workers,
            pin_memory=self.device.type == "cuda",
            persistent_workers=self.num_workers > 0,
        )
