"""Prepared ids -> rows, read from memory-mapped Arrow files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from elf_lightning.data.sources import CONDITION_IDS, IDS

if TYPE_CHECKING:
    from datasets import Dataset

Ids = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Row:
    """One example: a target with, in text-to-text tasks, its condition.

    Attributes:
        input_ids: the target's ids, not yet padded.
        condition_input_ids: the condition's ids; None for unconditional text.
        index: the example's number in its split.
        label_drop: whether the condition is hidden from the target.
    """

    input_ids: Ids
    condition_input_ids: Ids | None = None
    index: int = 0
    label_drop: bool = False


class Rows(Protocol):
    """Examples by number."""

    def __len__(self) -> int: ...

    def read(self, indices: Sequence[int]) -> list[Row]:
        """The examples with these numbers."""
        ...


class PackedRows:
    """Documents joined end to end and cut every `length` tokens; the last partial row is left out.

    Nothing is copied: a row is a slice of the memory-mapped stream of all tokens.
    """

    def __init__(self, dataset: Dataset, length: int) -> None:
        self.length = length
        self._dataset = dataset
        self._tokens = [chunk.flatten().to_numpy() for chunk in dataset.data.column(IDS).chunks]
        self._starts = np.cumsum([0, *(len(tokens) for tokens in self._tokens)])

    def __reduce__(self) -> tuple[type[PackedRows], tuple[Dataset, int]]:
        """A worker process maps the file itself."""
        return PackedRows, (self._dataset, self.length)

    @property
    def num_tokens(self) -> int:
        """Tokens of all documents."""
        return int(self._starts[-1])

    def __len__(self) -> int:
        return self.num_tokens // self.length

    def read(self, indices: Sequence[int]) -> list[Row]:
        """The rows with these numbers."""
        return [Row(self._slice(index * self.length), index=index) for index in indices]

    def _slice(self, start: int) -> Ids:
        chunk = int(np.searchsorted(self._starts, start, side="right")) - 1
        start -= int(self._starts[chunk])
        parts: list[Ids] = []
        missing = self.length
        while missing:
            parts.append(self._tokens[chunk][start : start + missing])
            missing -= len(parts[-1])
            chunk, start = chunk + 1, 0
        return np.concatenate(parts)


class DocumentRows:
    """One row for each prepared example."""

    def __init__(self, dataset: Dataset) -> None:
        self._columns = [name for name in (IDS, CONDITION_IDS) if name in dataset.column_names]
        self._dataset = dataset.with_format("numpy", columns=self._columns)

    def __len__(self) -> int:
        return len(self._dataset)

    def read(self, indices: Sequence[int]) -> list[Row]:
        """The rows with these numbers."""
        columns = self._dataset[list(indices)]
        targets = columns[IDS]
        conditions = columns.get(CONDITION_IDS, [None] * len(targets))
        return [
            Row(target, condition, index)
            for target, condition, index in zip(targets, conditions, indices, strict=True)
        ]

    def write_lengths(self, path: Path) -> None:
        """Write the tokens of each row, condition included, as int32 one after the other."""
        columns = [self._dataset.data.column(name).chunks for name in self._columns]
        with path.open("wb") as file:
            for chunks in zip(*columns, strict=True):
                lengths = [chunk.value_lengths().to_numpy() for chunk in chunks]
                file.write(np.sum(lengths, axis=0, dtype=np.int32).tobytes())
