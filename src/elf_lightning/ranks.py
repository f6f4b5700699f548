"""What the processes of a run, its ranks, give each other in plain Python."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor
from torch import distributed as dist

T = TypeVar("T")


def gathered(items: list[T]) -> list[T]:
    """The items of all ranks, in their order; every rank gets them all."""
    if not (dist.is_available() and dist.is_initialized()):
        return items
    shares: list[list[T]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(shares, items)
    return [item for share in shares for item in share]


def rank_and_world_size() -> tuple[int, int]:
    """This process's number and the number of processes; 0 and 1 without a process group."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of all ranks' `values`, in place; needs a process group."""
    dist.all_reduce(values)
    return values
