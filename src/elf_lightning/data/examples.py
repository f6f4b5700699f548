"""Prepared token ids -> examples, read from memory-mapped Arrow files -> padded batches."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.utils.data

from elf_lightning.batch import PromptBatch, TokenBatch, make_loss_mask
from elf_lightning.codec.vocabulary import PadMode
from elf_lightning.data.sources import CONDITION_IDS, IDS
from elf_lightning.flow import seeded_generator

if TYPE_CHECKING:
    from datasets import Dataset

Ids = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Example:
    """A target and, in text-to-text tasks, its condition: ids that are not yet padded.

    Attributes:
        index: the example's index in its split.
        label_drop: whether the condition is hidden from the target.
    """

    input_ids: Ids
    condition_input_ids: Ids | None = None
    index: int = 0
    label_drop: bool = False


class Examples(torch.utils.data.Dataset[Example], ABC):
    """Examples by index or, from a DataLoader, by key, `epoch * len + index`.

    With `label_drop_probability`, conditions are dropped for classifier-free guidance: one coin for each key.
    """

    label_drop_probability = 0.0
    seed = 0

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, keys: Sequence[int]) -> list[Example]:
        """The examples with these indices or keys, without label drop."""

    def __getitem__(self, key: int) -> Example:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[int]) -> list[Example]:
        examples, dropped = self.read(keys), [False] * len(keys)
        if self.label_drop_probability:
            coins = (seeded_generator("label drop", self.seed, *divmod(key, len(self))) for key in keys)
            dropped = [bool(torch.rand((), generator=coin) < self.label_drop_probability) for coin in coins]
        return [replace(one, label_drop=drop) for one, drop in zip(examples, dropped, strict=True)]


class PackedExamples(Examples):
    """Slices of the memory-mapped stream of all tokens; no token is copied to disk.

    A table row is a document, paragraph or sentence. `cuts` is a file of `Cut`s; None cuts every
    `max_length` tokens and leaves the rest out. `bos` puts `eos_id` before each example too.
    """

    def __init__(
        self, dataset: "Dataset", max_length: int, eos_id: int, cuts: Path | None = None, bos: bool = False
    ) -> None:
        self._arguments = (dataset, max_length, eos_id, cuts, bos)
        self._length, self._eos, self._bos = max_length, np.array([eos_id]), np.full(int(bos), eos_id)
        self._tokens = [chunk.flatten().to_numpy() for chunk in dataset.data.column(IDS).chunks]
        self._starts = np.cumsum([0, *(len(tokens) for tokens in self._tokens)])
        self._cuts = None if cuts is None else np.load(cuts, mmap_mode="r")

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        """A worker process maps the files itself; only pairs, which are never packed, have label drop."""
        return type(self), self._arguments

    def __len__(self) -> int:
        return int(self._starts[-1]) // self._length if self._cuts is None else len(self._cuts)

    def read(self, keys: Sequence[int]) -> list[Example]:  # noqa: D102
        return [Example(self._read(index), index=index) for index in (key % len(self) for key in keys)]

    def lengths(self) -> npt.NDArray[np.int32]:
        """Tokens of each example, (N,)."""
        if self._cuts is None:
            return np.full(len(self), self._length, np.int32)
        lengths: npt.NDArray[np.int64] = self._cuts["end"] - self._cuts["start"] + self._cuts["eos"]
        return (lengths + len(self._bos)).astype(np.int32)

    def _read(self, index: int) -> Ids:
        start, end, eos = index * self._length, (index + 1) * self._length, False
        if self._cuts is not None:
            start, end, eos = self._cuts[index].item()
        chunk = int(np.searchsorted(self._starts, start, side="right")) - 1
        parts: list[Ids] = [self._bos] if eos else []
        while start < end:
            first = int(self._starts[chunk])
            parts.append(self._tokens[chunk][start - first : end - first])
            start += len(parts[-1])
            chunk += 1
        return np.concatenate([*parts, self._eos] if eos else parts)


class WholeExamples(Examples):
    """One example for each table row: a target and, in text-to-text tasks, its condition."""

    def __init__(self, dataset: "Dataset") -> None:
        self._columns = [name for name in (IDS, CONDITION_IDS) if name in dataset.column_names]
        self._dataset = dataset.with_format("numpy", columns=self._columns)

    def __len__(self) -> int:
        return len(self._dataset)

    def read(self, keys: Sequence[int]) -> list[Example]:  # noqa: D102
        indices = [key % len(self) for key in keys]
        columns = self._dataset[indices]
        targets = columns[IDS]
        conditions = columns.get(CONDITION_IDS, [None] * len(targets))
        return [Example(*one) for one in zip(targets, conditions, indices, strict=True)]

    def lengths(self) -> npt.NDArray[np.int32]:
        """Tokens of each example, condition included, (N,)."""
        columns = [self._dataset.data.column(name).chunks for name in self._columns]
        chunks = [[chunk.value_lengths().to_numpy() for chunk in column] for column in columns]
        lengths: npt.NDArray[np.int32] = np.sum([np.concatenate(column) for column in chunks], 0, np.int32)
        return lengths


@dataclass(frozen=True)
class Collate:
    """Puts condition, target and padding side by side, each cut to the room that there is.

    Args:
        max_length: longest sequence, S.
        fill_id: the id at padding: the pad id, or EOS in pad mode `eos`.
        pad_mode: decides the loss mask.
        max_condition_length: of a condition, in tokens; None for unconditional text.
        width_step: make a batch as wide as its longest sequence, rounded up to a multiple of this; None
            makes every batch `max_length` wide.
    """

    max_length: int
    fill_id: int
    pad_mode: PadMode = "pad"
    max_condition_length: int | None = None
    width_step: int | None = None

    def __call__(self, examples: Sequence[Example]) -> TokenBatch:
        """The batch of these examples, (B, S)."""
        parts = []
        for example in examples:
            condition = example.input_ids[:0]
            if example.condition_input_ids is not None:
                condition = example.condition_input_ids[: self.max_condition_length]
            parts.append((condition, example.input_ids[: self.max_length - len(condition)]))
        lengths = torch.tensor([[len(condition), len(target)] for condition, target in parts])
        ends, width = lengths.sum(1, keepdim=True), self.max_length
        if self.width_step is not None:
            width = min(width, max(1, -(-int(ends.max()) // self.width_step)) * self.width_step)
        input_ids = torch.full((len(examples), width), self.fill_id)
        for row, ids in zip(input_ids, map(np.concatenate, parts), strict=True):
            row[: len(ids)] = torch.from_numpy(ids.astype(np.int64))
        position = torch.arange(width)
        attention_mask, condition_mask = position < ends, position < lengths[:, :1]
        return TokenBatch(
            input_ids=input_ids,
            attention_mask=attention_mask,
            condition_mask=condition_mask,
            loss_mask=make_loss_mask(attention_mask, condition_mask, self.pad_mode),
            label_drop=torch.tensor([example.label_drop for example in examples]),
            unconditional=not condition_mask.any(),
            full=bool((attention_mask & ~condition_mask).all()),
        )

    def prompts(self, examples: Sequence[Example]) -> PromptBatch:
        """The conditions of these examples, (B, S), without their targets."""
        tokens = self([replace(example, input_ids=example.input_ids[:0]) for example in examples])
        index = torch.tensor([example.index for example in examples])
        return PromptBatch(index, tokens.input_ids, tokens.condition_mask)
