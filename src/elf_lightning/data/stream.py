"""Rows of a source that is read as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from torch.utils.data import Dataset, get_worker_info

from elf_lightning.data.examples import label_dropped
from elf_lightning.data.rows import Row
from elf_lightning.data.sources import CONDITION_IDS, IDS, Source
from elf_lightning.data.tokenize import Tokenize
from elf_lightning.errors import UserError

READ_AT_ONCE = 256
"""Examples that are tokenised together."""


@dataclass(frozen=True)
class StreamSettings:
    """How a stream becomes rows.

    Attributes:
        source: the stream.
        tokenize: makes rows of its examples.
        batch_size: rows a batch and rank.
        rank: this process's number.
        world_size: number of processes.
        seed: of the stream's order and of label drop.
        label_drop_probability: how often a row's condition is hidden from its target.
    """

    source: Source
    tokenize: Tokenize
    batch_size: int
    rank: int = 0
    world_size: int = 1
    seed: int = 0
    label_drop_probability: float = 0.0


class StreamedExamples(Dataset[Row]):
    """A stream's rows by key, `epoch * len + index`, where keys come in order.

    The stream is split over ranks and loader workers. Batch `b` of a rank is the `b // workers`-th of the
    stream's part `b % workers`, whichever worker is asked for it: so a resumed run, whose first worker reads
    another part than before, goes on with the very same rows. It reads again, and tokenises again, what was
    trained on before. A part that ends starts again.

    Args:
        settings: the stream and how it is cut.
    """

    def __init__(self, settings: StreamSettings) -> None:
        assert settings.source.streamed_rows is not None
        self.settings = settings
        self.num_rows = settings.source.streamed_rows
        self._part: tuple[int, int] | None = None
        self._turn = 0
        self._rows: Iterator[Row] = iter(())

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, key: int) -> Row:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[int]) -> list[Row]:
        settings = self.settings
        worker = get_worker_info()
        workers = 1 if worker is None else worker.num_workers
        epoch, first = divmod(keys[0], self.num_rows)
        turn, part = divmod(first // (settings.batch_size * settings.world_size), workers)
        if self._part != (epoch, part) or turn < self._turn:
            self._part, self._turn = (epoch, part), 0
            self._rows = stream_rows(settings, epoch, part, workers)
        skipped = (turn - self._turn) * settings.batch_size
        rows = list(islice(self._rows, skipped, skipped + len(keys)))
        self._turn = turn + 1
        return [self._numbered(row, *divmod(key, self.num_rows)) for row, key in zip(rows, keys, strict=True)]

    def _numbered(self, row: Row, epoch: int, index: int) -> Row:
        probability, seed = self.settings.label_drop_probability, self.settings.seed
        dropped = probability > 0 and label_dropped(probability, seed, epoch, index)
        return replace(row, index=index, label_drop=dropped)


def stream_rows(settings: StreamSettings, epoch: int, part: int, parts: int) -> Iterator[Row]:
    """The rows of one of the parts that this rank's share of a stream falls into, without end.

    Raises:
        UserError: if there is not one row in it.
    """
    from datasets.distributed import split_dataset_by_node

    while True:
        stream = split_dataset_by_node(
            settings.source.stream(epoch, settings.seed),
            rank=settings.rank * parts + part,
            world_size=settings.world_size * parts,
        )
        some = False
        # `iter` with a batch size, since plain iteration would split the stream once more by worker.
        for row in _cut(settings.tokenize, stream.iter(READ_AT_ONCE)):
            some = True
            yield row
        if not some:
            raise UserError(
                f"source {type(settings.source).__name__}: part {part + 1} of {parts} of the stream has not "
                "one row; use fewer data.num_workers"
            )


def _cut(tokenize: Tokenize, batches: Iterator[dict[str, list[object]]]) -> Iterator[Row]:
    left: list[int] = []
    packed = tokenize.packing == "pack" and tokenize.max_condition_length is None
    for columns in batches:
        tokenize.check_columns(list(columns))
        table = tokenize(columns)
        conditions = table.get(CONDITION_IDS, [None] * len(table[IDS]))
        for ids, condition in zip(table[IDS], conditions, strict=True):
            if not packed:
                yield Row(np.array(ids), None if condition is None else np.array(condition))
                continue
            left += ids
            for start in range(0, len(left) - tokenize.max_length + 1, tokenize.max_length):
                yield Row(np.array(left[start : start + tokenize.max_length]))
            left = left[len(left) - len(left) % tokenize.max_length :]
