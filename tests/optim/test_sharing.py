"""Sharing the matrices of a step among processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed as dist
from torch import nn

from elf_lightning.optim import MuonWithNesterovAdam
from elf_lightning.optim.muon import owners

STEPS = 3
NUMBERS = [0, 1, 2, 3, 7]


def matrices(number: int) -> list[nn.Parameter]:
    """`number` matrices of at most three shapes, and one vector."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(6, 4), (6, 4), (3, 12), (5, 5)] * number
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in [*shapes[:number], (7,)]]


def train(
    params: list[nn.Parameter], sharded: bool, dtype: torch.dtype = torch.float32
) -> list[torch.Tensor]:
    groups: list[dict[str, Any]] = [{"params": params[:-1], "use_muon": True}] if len(params) > 1 else []
    groups.append({"params": params[-1:], "use_muon": False})
    optimizer = MuonWithNesterovAdam(groups, lr=0.1, newton_schulz_dtype=dtype, sharded=sharded)
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(step)
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()
    momenta = [value for state in optimizer.state.values() for value in state.values()]
    return [p.detach() for p in params] + momenta


def one_process(rank: int, world_size: int, folder: Path, dtype: torch.dtype) -> None:
    """What each process does; this file is its script."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world_size)
    results = {number: train(matrices(number), sharded=True, dtype=dtype) for number in NUMBERS}
    dist.destroy_process_group()
    torch.save(results, folder / f"{rank}.pt")


@pytest.mark.parametrize(("world_size", "dtype"), [(3, "float32"), (2, "bfloat16")])
def test_any_number_of_processes_gives_the_weights_of_one(
    tmp_path: Path, world_size: int, dtype: str
) -> None:
    command = [sys.executable, __file__, str(world_size), str(tmp_path), dtype]
    processes = [subprocess.Popen([*command, str(rank)]) for rank in range(world_size)]
    try:
        assert [process.wait(timeout=300) for process in processes] == [0] * world_size
    finally:
        for process in processes:
            process.kill()
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(world_size)]
    for number in NUMBERS:
        alone = train(matrices(number), sharded=False, dtype=getattr(torch, dtype))
        for result in results:
            torch.testing.assert_close(result[number], results[0][number], rtol=0, atol=0)
            torch.testing.assert_close(result[number], alone, rtol=1e-5, atol=1e-6)


def test_work_is_shared_evenly() -> None:
    assert owners([5, 1, 1, 9, 2], 1) == [0] * 5
    shared = owners([5, 1, 1, 9, 2], 2)
    assert sorted(
        {sum(cost for cost, who in zip([5, 1, 1, 9, 2], shared, strict=True) if who == r) for r in (0, 1)}
    ) == [9]
    assert sorted(owners([1] * 7, 3)) == [0, 0, 0, 1, 1, 2, 2]
    assert owners([], 4) == []


if __name__ == "__main__":
    size, meeting_folder, precision, own_rank = sys.argv[1:]
    one_process(int(own_rank), int(size), Path(meeting_folder), getattr(torch, precision))
