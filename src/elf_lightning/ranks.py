"""Communication between the ranks of a run."""

from typing import TypeVar

from torch import distributed as dist

T = TypeVar("T")


def gathered(items: list[T]) -> list[T]:
    """The items of all ranks, in rank order, on every rank."""
    if not (dist.is_available() and dist.is_initialized()):
        return items
    by_rank: list[list[T]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(by_rank, items)
    return [item for part in by_rank for item in part]


def rank_and_world_size() -> tuple[int, int]:
    """This process's number and the number of processes; 0 and 1 without a process group."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()
