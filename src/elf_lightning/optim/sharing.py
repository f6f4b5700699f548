"""Splitting the matrices of an optimizer step among processes, and exchanging the results."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist

from elf_lightning.ranks import rank_and_world_size


def owners(costs: list[int], processes: int) -> list[int]:
    """The process assigned to each cost: the largest first, each to the least loaded process so far.

    A pure function of its arguments, so that all processes agree without communication.
    """
    loads = [0] * processes
    result = [0] * len(costs)
    for index in sorted(range(len(costs)), key=lambda i: -costs[i]):
        result[index] = loads.index(min(loads))
        loads[result[index]] += costs[index]
    return result


def gather(own: Tensor, owners: list[int]) -> Tensor:
    """All matrices, (len(owners), rows, columns), from each process's `own` (n, rows, columns).

    One asynchronous broadcast per matrix: an all-gather in which processes may have different numbers of
    matrices, or none.
    """
    rank, world_size = rank_and_world_size()
    if world_size == 1:
        return own
    everything = own.new_empty(len(owners), *own.shape[1:])
    slots = list(everything.unbind())
    own_slots = [slot for slot, owner in zip(slots, owners, strict=True) if owner == rank]
    if own_slots:
        torch._foreach_copy_(own_slots, list(own.unbind()))
    sent = [dist.broadcast(slot, owner, async_op=True) for slot, owner in zip(slots, owners, strict=True)]
    for work in sent:
        assert work is not None
        work.wait()
    return everything
