"""The order in which examples are read: a pure function of seed, epoch and first batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset, DistributedSampler

Indices = npt.NDArray[np.int64]
POOL_BATCHES = 64
"""Batches among which rows of like length are brought together."""


class RankSampler(DistributedSampler[int]):
    """This rank's share of `num_rows` examples.

    Lightning leaves a DistributedSampler as it is; any other one it would shard once more.

    Args:
        num_rows: number of examples.
        rank: this process's number.
        world_size: number of processes.
    """

    def __init__(self, num_rows: int, rank: int, world_size: int) -> None:
        # The parent asks its data set for nothing but its length.
        super().__init__(cast(Dataset[int], range(num_rows)), num_replicas=world_size, rank=rank)
        self.num_rows = num_rows


class EpochSampler(RankSampler):
    """Example keys, batch after batch, sharded over ranks.

    A key is `epoch * num_rows + index`, so that whatever is drawn for an example (label drop) can depend on
    the epoch in every worker process. All ranks get the same number of full batches; the rest of an epoch's
    examples is left out of it. Memory does not grow with the number of rows.

    Args:
        num_rows: number of examples.
        batch_size: examples a batch and rank.
        seed: of the order.
        rank: this process's number.
        world_size: number of processes.
        epoch: the epoch to begin with.
        first_batch: batches of that epoch to leave out, because they were trained on before.
        shuffle: whether to shuffle.
        lengths: (num_rows,) tokens of each example; batches then hold examples of like length, in no
            order of length.
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
        shuffle: bool = True,
        lengths: npt.NDArray[np.int32] | None = None,
    ) -> None:
        super().__init__(num_rows, rank, world_size)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch
        self.first_batch = first_batch
        self.shuffle = shuffle
        self.lengths = lengths

    @property
    def num_batches(self) -> int:
        """Batches of a whole epoch on each rank."""
        return self.num_rows // (self.batch_size * self.num_replicas)

    def set_epoch(self, epoch: int) -> None:
        """Begin another epoch at its first batch; the current epoch keeps its first batch."""
        if epoch != self.epoch:
            self.epoch, self.first_batch = epoch, 0

    def __len__(self) -> int:
        # Of the whole epoch, also after a resume: Lightning counts the batches already trained on.
        return self.num_batches * self.batch_size

    def __iter__(self) -> Iterator[int]:
        first_pool, first_batch = divmod(self.first_batch, POOL_BATCHES)
        for pool in range(first_pool, -(-self.num_batches // POOL_BATCHES)):
            for batch in self._pool(pool)[first_batch:, self.rank]:
                yield from (self.epoch * self.num_rows + batch).tolist()
            first_batch = 0

    def _pool(self, pool: int) -> Indices:
        """Example indices of one pool of batches, (batches, world_size, batch_size)."""
        together = self.num_replicas * self.batch_size
        start = pool * POOL_BATCHES
        batches = min(POOL_BATCHES, self.num_batches - start)
        order = np.arange(start * together, (start + batches) * together)
        if self.shuffle:
            order = permuted(order, self.num_rows, self.seed, self.epoch)
        if self.lengths is not None:
            by_length = order[np.argsort(self.lengths[order], kind="stable")]
            order = self._shuffled_batches(by_length.reshape(batches, together), pool)
        return order.reshape(batches, self.num_replicas, self.batch_size)

    def _shuffled_batches(self, rows: Indices, pool: int) -> Indices:
        """The same batches (batches, rows) in another order, the rows of each in another order too."""
        # A row's place in its batch decides what is done with it (denoise or decode): not by its length.
        places = permuted(np.arange(rows.size), rows.size, self.seed, self.epoch, pool)
        mixed = np.take_along_axis(rows, places.reshape(rows.shape).argsort(axis=1), axis=1)
        return mixed[permuted(np.arange(len(rows)), len(rows), self.seed, self.epoch, pool)]


class ShardSampler(RankSampler):
    """Every `world_size`-th example, in order.

    Of fewer examples than processes each process still has one, some the same: one without anything to do
    would keep the others waiting.

    Args:
        num_rows: number of examples.
        rank: this process's number.
        world_size: number of processes.
        even: leave out the last few examples, so that all ranks have the same number.
    """

    def __init__(self, num_rows: int, rank: int, world_size: int, even: bool) -> None:
        super().__init__(num_rows, rank, world_size)
        fewer = 0 < num_rows < world_size
        end = num_rows - num_rows % world_size if even and not fewer else num_rows
        self.indices = range(rank % num_rows if fewer else rank, end, world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


def permuted(index: Indices, size: int, *key: int) -> Indices:
    """A keyed shuffle of `range(size)`, evaluated at these places alone: distinct in, distinct out.

    A Feistel network is a bijection on the next power of four; what it sends beyond `size` goes through it
    again (cycle walking) until it comes back.
    """
    half = max(1, -(-(size - 1).bit_length() // 2))
    round_keys = _mixed_key(key, 8)
    places = index.astype(np.uint64)
    outside = np.ones(len(places), dtype=bool)
    while outside.any():
        places[outside] = _feistel(places[outside], np.uint64(half), round_keys)
        outside = places >= size
    return places.astype(np.int64)


def _feistel(
    places: npt.NDArray[np.uint64], half: np.uint64, round_keys: npt.NDArray[Any]
) -> npt.NDArray[np.uint64]:
    mask = np.uint64((1 << int(half)) - 1)
    left, right = places >> half, places & mask
    for key in round_keys:
        left, right = right, left ^ (_mixed(right + key) & mask)
    return (left << half) | right


def _mixed(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of splitmix64: every output bit depends on every input bit."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def keyed_generator(*key: int) -> torch.Generator:
    """A CPU generator whose draws depend on these non-negative numbers alone."""
    return torch.Generator().manual_seed(int(_mixed_key(key, 1)[0]))


def _mixed_key(key: tuple[int, ...], count: int) -> npt.NDArray[Any]:
    # With the length in front, since a SeedSequence does not see zeros at the end.
    return np.random.SeedSequence((len(key), *key)).generate_state(count, np.uint64)
