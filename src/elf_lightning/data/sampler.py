"""The order in which examples are read: a pure function of seed, epoch and first batch."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DistributedSampler

from elf_lightning.errors import UserError
from elf_lightning.flow import seeded_generator

POOL_BATCHES = 64  # batches among which examples of similar length are brought together


def whole_batches(examples: int, batch_size: int, world_size: int) -> int:
    """Batches in an epoch on each device."""
    if batches := examples // (batch_size * world_size):
        return batches
    raise UserError(
        f"data.batch_size {batch_size} x {world_size} device(s) is more than the {examples} training "
        "sequences; choose a smaller one or give more text"
    )


class EpochSampler(DistributedSampler[int]):
    """Example keys, batch after batch, sharded over ranks, from `first_batch` of `epoch` on.

    A key is `epoch * num_examples + index`, so that whatever is drawn for an example (label drop) can depend
    on the epoch in every worker process. All ranks get the same number of full batches; the examples that
    remain are left out of the epoch. With `lengths` (num_examples,), a batch holds similarly long examples;
    batches, and the examples in each, are still in random order. (Lightning would shard any but a
    DistributedSampler once more.)
    """

    def __init__(
        self,
        num_examples: int,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        epoch: int = 0,
        first_batch: int = 0,
        shuffle: bool = True,
        lengths: npt.NDArray[np.int32] | None = None,
    ) -> None:
        super().__init__(range(num_examples), world_size, rank, shuffle, seed)  # type: ignore[arg-type]
        self.num_examples, self.batch_size, self.lengths = num_examples, batch_size, lengths
        self.num_batches = whole_batches(num_examples, batch_size, world_size)
        self.epoch, self.first_batch = epoch, first_batch

    def set_epoch(self, epoch: int) -> None:
        """Begin another epoch at its first batch; the current epoch keeps its first batch."""
        if epoch != self.epoch:
            self.epoch, self.first_batch = epoch, 0

    def __len__(self) -> int:
        # Of the whole epoch, also after a resume: Lightning counts the batches already trained on.
        return self.num_batches * self.batch_size

    def __iter__(self) -> Iterator[int]:
        batches = self._order().view(self.num_batches, self.num_replicas, self.batch_size).numpy()
        for batch in batches[self.first_batch :, self.rank]:
            yield from (self.epoch * self.num_examples + batch).tolist()

    def _order(self) -> Tensor:
        """Indices of the epoch's examples, int64."""
        generator = seeded_generator("order", self.seed, self.epoch)
        count, together = self.num_examples, self.num_replicas * self.batch_size
        order = torch.randperm(count, generator=generator) if self.shuffle else torch.arange(count)
        order = order[: self.num_batches * together]
        if self.lengths is None:
            return order
        mixed = []
        for pool in torch.split(order, POOL_BATCHES * together):
            by_length = torch.from_numpy(self.lengths[pool.numpy()]).argsort(stable=True)
            batches = pool[by_length].view(-1, together)
            # An example's place in its batch decides its mode (denoise or decode), so it must be random.
            places = torch.rand(batches.shape, generator=generator).argsort(dim=1)
            order_of_batches = torch.randperm(len(batches), generator=generator)
            mixed.append(batches.gather(1, places)[order_of_batches].flatten())
        return torch.cat(mixed)


class ShardSampler(DistributedSampler[int]):
    """Every `world_size`-th example, in order; `even` drops the remainder: ranks get equal numbers.

    With fewer examples than processes some get the same: one without any would keep the others waiting.
    """

    def __init__(self, num_examples: int, rank: int, world_size: int, even: bool) -> None:
        super().__init__(range(num_examples), world_size, rank)  # type: ignore[arg-type]
        fewer = 0 < num_examples < world_size
        end = num_examples - num_examples % world_size if even and not fewer else num_examples
        self.indices = range(rank % num_examples if fewer else rank, end, world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)
