"""Sharing the matrices of an optimizer step among processes: who does which, and how all get all."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist


def ranks() -> int:
    """Number of processes in the default process group, 1 without one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number in the default process group, 0 without one."""
    return dist.get_rank() if ranks() > 1 else 0


def owners(costs: list[int], processes: int) -> list[int]:
    """The process that does each piece of work: the dearest first, each to the least loaded so far.

    A pure function of its arguments, so all processes agree without a word.
    """
    loads = [0] * processes
    result = [0] * len(costs)
    for piece in sorted(range(len(costs)), key=lambda i: -costs[i]):
        result[piece] = loads.index(min(loads))
        loads[result[piece]] += costs[piece]
    return result


def gather(share: Tensor, owners: list[int]) -> Tensor:
    """All matrices, (len(owners), rows, columns), from each process's own ones in order.

    One broadcast a matrix, all in flight together: an all-gather whose shares may differ in number, or be
    empty.
    """
    if ranks() == 1:
        return share
    everything = share.new_empty(len(owners), *share.shape[1:])
    slots = list(everything.unbind())
    own = [slot for slot, owner in zip(slots, owners, strict=True) if owner == rank()]
    if own:
        torch._foreach_copy_(own, list(share.unbind()))
    pending = [
        dist.broadcast(slot, src=owner, async_op=True) for slot, owner in zip(slots, owners, strict=True)
    ]
    for work in pending:
        assert work is not None
        work.wait()
    return everything
