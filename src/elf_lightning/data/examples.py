"""Keys -> batches, inside a loader's worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch.utils.data import Dataset

from elf_lightning.batch import LatentBatch, PromptBatch
from elf_lightning.data.collate import Collate
from elf_lightning.data.latents_cache import SplitLatents
from elf_lightning.data.rows import Row, Rows
from elf_lightning.data.sampler import keyed_generator


class Examples(Dataset[Row]):
    """A split's rows by key (`epoch * len + index`), each with its label drop.

    Args:
        rows: the split's rows.
        seed: of label drop.
        label_drop_probability: how often a row's condition is hidden from its target.
    """

    def __init__(self, rows: Rows, seed: int = 0, label_drop_probability: float = 0.0) -> None:
        self.rows = rows
        self.seed = seed
        self.label_drop_probability = label_drop_probability

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int) -> Row:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[int]) -> list[Row]:
        places = [divmod(key, len(self)) for key in keys]
        rows = self.rows.read([index for _, index in places])
        if not self.label_drop_probability:
            return rows
        return [
            replace(row, label_drop=label_dropped(self.label_drop_probability, self.seed, epoch, row.index))
            for row, (epoch, _) in zip(rows, places, strict=True)
        ]


def label_dropped(probability: float, seed: int, epoch: int, index: int) -> bool:
    """Whether this example's condition is hidden in this epoch."""
    return bool(torch.rand((), generator=keyed_generator(seed, epoch, index)) < probability)


@dataclass(frozen=True)
class CollateLatents:
    """Collates rows and adds their cached latents.

    Args:
        collate: makes the token batch.
        latents: the split's cached latents.
    """

    collate: Collate
    latents: SplitLatents

    def __call__(self, rows: Sequence[Row]) -> LatentBatch:
        """The batch of these rows with its latents (B, S, C), in bfloat16."""
        tokens = self.collate(rows)
        latents = self.latents.read([row.index for row in rows], tokens.label_drop)
        return LatentBatch(**vars(tokens), latents=latents[:, : tokens.input_ids.shape[1]])


@dataclass(frozen=True)
class CollatePrompts:
    """Collates the conditions of rows, without their targets, into rows to generate."""

    collate: Collate

    def __call__(self, rows: Sequence[Row]) -> PromptBatch:
        """The prompts of these rows."""
        tokens = self.collate([replace(row, input_ids=row.input_ids[:0]) for row in rows])
        return PromptBatch(
            index=torch.tensor([row.index for row in rows]),
            input_ids=tokens.input_ids,
            condition_mask=tokens.condition_mask,
        )


class EmptyRows:
    """Rows without text: prompts of unconditional generation."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def read(self, indices: Sequence[int]) -> list[Row]:
        """Empty rows with these numbers."""
        return [Row(torch.empty(0, dtype=torch.int64).numpy(), index=index) for index in indices]
