"""Examples of a source that is read as a stream."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from torch.utils.data import get_worker_info

from elf_lightning.data.examples import Example, Examples
from elf_lightning.data.packing import packed
from elf_lightning.data.sources import CONDITION_IDS, IDS, Source
from elf_lightning.data.tokenize import Table, Tokenize
from elf_lightning.errors import UserError

READ_AT_ONCE = 256  # documents that are tokenised together


@dataclass(eq=False)
class StreamedExamples(Examples):
    """A stream's examples by key, for keys in order.

    The stream is split over ranks and loader workers. Batch `b` of a rank is the `b // workers`-th of the
    stream's part `b % workers`, whichever worker is asked for it. So a resumed run, whose first worker reads
    another part than before, continues with the same examples; it reads and tokenises again what was
    trained on before. A part that ends starts again. Rank, batch size and seed are the sampler's.
    """

    source: Source
    tokenize: Tokenize
    batch_size: int
    seed: int = 0
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        self._open, self._turn = (-1, -1), 0  # epoch and part that are read, and the next batch there
        self._examples: Iterator[Example] = iter(())

    def __len__(self) -> int:
        assert self.source.streamed_examples is not None
        return self.source.streamed_examples

    def read(self, keys: Sequence[int]) -> list[Example]:  # noqa: D102
        worker = get_worker_info()
        workers = 1 if worker is None else worker.num_workers
        epoch, first = divmod(keys[0], len(self))
        turn, part = divmod(first // (self.batch_size * self.world_size), workers)
        if self._open != (epoch, part) or turn < self._turn:
            self._open, self._turn = (epoch, part), 0
            self._examples = self.part(epoch, part, workers)
        skipped = (turn - self._turn) * self.batch_size
        examples = list(islice(self._examples, skipped, skipped + len(keys)))
        self._turn = turn + 1
        return [replace(one, index=key % len(self)) for one, key in zip(examples, keys, strict=True)]

    def part(self, epoch: int, part: int, parts: int) -> Iterator[Example]:
        """The examples of one of the parts of this rank's share of the stream, without end."""
        from datasets.distributed import split_dataset_by_node

        while True:
            stream = split_dataset_by_node(
                self.source.stream(epoch, self.seed),
                rank=self.rank * parts + part,
                world_size=self.world_size * parts,
            )
            # `iter` with a batch size, since plain iteration would split the stream once more by worker.
            examples = self._examples_of(map(self.tokenize, stream.iter(READ_AT_ONCE)))
            if (first := next(examples, None)) is None:
                remedy = "use fewer data.num_workers"
                if parts == 1:
                    remedy = "lower source.streamed_validation_examples (not trained on), or give more"
                raise UserError(
                    f"source {type(self.source).__name__}: part {part + 1} of {parts} of the stream is too "
                    f"short for one sequence; {remedy}"
                )
            yield first
            yield from examples

    def _examples_of(self, tables: Iterator[Table]) -> Iterator[Example]:
        tokenize = self.tokenize
        if tokenize.packs:
            texts = (ids for table in tables for ids in table[IDS])
            for sequence in packed(texts, tokenize.packing, tokenize.max_length, tokenize.eos_id):
                yield Example(np.array(sequence))
            return
        for table in tables:
            conditions = table.get(CONDITION_IDS, [None] * len(table[IDS]))
            for ids, condition in zip(table[IDS], conditions, strict=True):
                yield Example(np.array(ids), None if condition is None else np.array(condition, np.int64))
