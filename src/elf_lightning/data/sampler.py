"""The order in which examples are read: a pure function of seed, epoch and first batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler


class EpochSampler(Sampler[int]):
    """Shuffled example keys, batch after batch, sharded over ranks.

    A key is `epoch * num_rows + index`, so that whatever is drawn for an example (label drop) can depend on
    the epoch in every worker process. All ranks get the same number of full batches; the rest of an epoch's
    examples is left out of it.

    Args:
        num_rows: number of examples.
        batch_size: examples a batch and rank.
        seed: of the order.
        rank: this process's number.
        world_size: number of processes.
        epoch: the epoch to begin with.
        first_batch: batches of that epoch to leave out, because they were trained on before.
    """

    def __init__(
        self,
        num_rows: int,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        epoch: int = 0,
        first_batch: int = 0,
    ) -> None:
        self.num_rows = num_rows
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = epoch
        self.first_batch = first_batch

    @property
    def num_batches(self) -> int:
        """Batches of a whole epoch on each rank."""
        return self.num_rows // (self.batch_size * self.world_size)

    def set_epoch(self, epoch: int) -> None:
        """Begin another epoch at its first batch; the current epoch keeps its first batch."""
        if epoch != self.epoch:
            self.epoch, self.first_batch = epoch, 0

    def __len__(self) -> int:
        # Of the whole epoch, also after a resume: Lightning counts the batches already trained on.
        return self.num_batches * self.batch_size

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(self.num_rows, generator=keyed_generator(self.seed, self.epoch))
        used = self.num_batches * self.world_size * self.batch_size
        batches = order[:used].view(self.num_batches, self.world_size, self.batch_size)
        for batch in batches[self.first_batch :, self.rank]:
            yield from (self.epoch * self.num_rows + batch).tolist()


class ShardSampler(Sampler[int]):
    """Every `world_size`-th example, in order.

    Args:
        num_rows: number of examples.
        rank: this process's number.
        world_size: number of processes.
        even: leave out the last few examples, so that all ranks have the same number.
    """

    def __init__(self, num_rows: int, rank: int, world_size: int, even: bool) -> None:
        end = num_rows - num_rows % world_size if even else num_rows
        self.indices = range(rank, end, world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


def keyed_generator(*key: int) -> torch.Generator:
    """A CPU generator whose draws depend on these non-negative numbers alone."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))
