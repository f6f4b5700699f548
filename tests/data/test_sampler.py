"""The order in which examples are read."""

from __future__ import annotations

import numpy as np
import pytest

from elf_lightning.data.sampler import POOL_BATCHES, EpochSampler, ShardSampler


def keys(sampler: EpochSampler) -> list[int]:
    return list(sampler)


@pytest.mark.parametrize("lengths", [None, np.arange(1003, dtype=np.int32) % 7])
def test_an_epoch_reads_each_example_once(lengths: np.ndarray | None) -> None:
    sampler = EpochSampler(1003, batch_size=4, epoch=2, lengths=lengths)
    epochs, indices = zip(*(divmod(key, 1003) for key in sampler), strict=True)
    assert set(epochs) == {2}
    assert len(set(indices)) == len(indices) == 1000


def test_order_changes_with_epoch_and_seed_and_with_nothing_else() -> None:
    first = keys(EpochSampler(100, 4, seed=1))
    assert first == keys(EpochSampler(100, 4, seed=1))
    assert first != keys(EpochSampler(100, 4, seed=2))
    second = EpochSampler(100, 4, seed=1)
    second.set_epoch(1)
    assert [key - 100 for key in second] != first


@pytest.mark.parametrize("first_batch", [0, 1, 24, POOL_BATCHES - 1, POOL_BATCHES, POOL_BATCHES + 3, 250])
@pytest.mark.parametrize("lengths", [None, np.arange(1000, dtype=np.int32) % 7])
def test_starting_at_a_batch_is_skipping_those_before(first_batch: int, lengths: np.ndarray | None) -> None:
    whole = keys(EpochSampler(1000, 4, seed=1, epoch=3, lengths=lengths))
    rest = EpochSampler(1000, 4, seed=1, epoch=3, first_batch=first_batch, lengths=lengths)
    assert keys(rest) == whole[4 * first_batch :]
    assert len(rest) == 1000


def test_the_next_epoch_begins_at_its_first_batch() -> None:
    sampler = EpochSampler(100, 4, epoch=1, first_batch=5)
    sampler.set_epoch(1)
    assert sampler.first_batch == 5
    sampler.set_epoch(2)
    assert keys(sampler) == keys(EpochSampler(100, 4, epoch=2))


def test_ranks_share_each_global_batch() -> None:
    alone = np.array(keys(EpochSampler(103, 8))).reshape(-1, 2, 4)
    ranks = [np.array(keys(EpochSampler(103, 4, rank=rank, world_size=2))) for rank in (0, 1)]
    for rank in (0, 1):
        assert ranks[rank].tolist() == alone[:, rank].flatten().tolist()


def test_lengths_bring_like_rows_together() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 1024).astype(np.int32)

    def spread(sampler: EpochSampler) -> float:
        return float(np.ptp(lengths[np.array(keys(sampler))].reshape(-1, 8), axis=1).mean())

    assert spread(EpochSampler(1024, 8, lengths=lengths)) < spread(EpochSampler(1024, 8)) / 5


def test_a_rows_place_in_its_batch_says_nothing_of_its_length() -> None:
    lengths = np.random.default_rng(0).permutation(4096).astype(np.int32)
    ranks = [keys(EpochSampler(4096, 4, rank=rank, world_size=2, lengths=lengths)) for rank in range(2)]
    batches = lengths[np.concatenate([np.array(rank).reshape(-1, 4) for rank in ranks], axis=1)]
    longer = (batches[:, :, None] > batches[:, None, :]).mean(axis=0)
    assert np.abs(longer - longer.T).max() < 0.2


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_read_an_epoch_between_them(world_size: int) -> None:
    samplers = [EpochSampler(48, 4, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert sorted(key for sampler in samplers for key in sampler) == list(range(48))
    assert {len(sampler) for sampler in samplers} == {48 // world_size}


def test_without_shuffling_keys_come_in_order() -> None:
    assert keys(EpochSampler(10, 2, epoch=1, shuffle=False)) == list(range(10, 20))


@pytest.mark.parametrize("even", [True, False])
def test_shards_cover_the_rows(even: bool) -> None:
    shards = [list(ShardSampler(11, rank, 3, even)) for rank in range(3)]
    assert sorted(index for shard in shards for index in shard) == list(range(9 if even else 11))
    assert len({len(shard) for shard in shards}) == (1 if even else 2)


@pytest.mark.parametrize("even", [True, False])
def test_no_rank_is_without_examples(even: bool) -> None:
    assert [list(ShardSampler(2, rank, 4, even)) for rank in range(4)] == [[0], [1], [0], [1]]
