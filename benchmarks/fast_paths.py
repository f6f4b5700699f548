"""What each hand-written fast path brings to a whole training step.

    python -m benchmarks.fast_paths --size bible --json fast_paths.json

Each fast path is replaced by what would stand in its place without it, and must end in the same weights. The
table says how much longer the step takes without it, in percent.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from rich.table import Table
from torch import Tensor

from benchmarks.baseline.network import latents_in
from benchmarks.batches import RandomBatches
from benchmarks.measure import Budget, Spread, alternate, new_table, run
from benchmarks.sizes import SIZES, Size
from benchmarks.training import Training
from elf_lightning.network import blocks
from elf_lightning.network.projections import LatentProjection
from elf_lightning.objectives import flow_matching
from elf_lightning.optim import newton_schulz

OURS = "ours"


def rotate(x: Tensor, rotary: Tensor) -> Tensor:
    """`blocks.rotate` in real numbers."""
    even, odd = x.reshape(*x.shape[:-1], -1, 2).unbind(-1)
    cos, sin = rotary.unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


def token_cross_entropy(
    network: Any, hidden: Tensor, ids: Tensor, mask: Tensor, unknown_id: None = None
) -> Any:
    """`token_loss.token_cross_entropy` on all logits at once."""
    logits = network.token_head(hidden)
    error = F.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none")
    return (error * mask.flatten()).sum(), ((logits.argmax(-1) == ids) * mask).sum()


WITHOUT = {
    "rotation as a complex product": patch.object(blocks, "rotate", rotate),
    "two input layers as one": patch.object(LatentProjection, "forward", latents_in),
    "token loss in chunks": patch.object(flow_matching, "token_cross_entropy", token_cross_entropy),
    "Newton-Schulz on Gram matrices": patch.object(newton_schulz, "gram_is_cheaper", lambda *shape: False),
}
"""Each replaces a fast path while it is entered."""
if blocks.HAS_KERNELS:
    # They rotate, too: on a GPU, the complex product is used without them alone.
    WITHOUT["Triton kernels"] = patch.object(blocks, "HAS_KERNELS", False)


def stepping(size: Size, device: torch.device, name: str = OURS) -> tuple[Training, Callable[[], Tensor]]:
    """A training and its step, without the fast path of this name."""
    training = Training(size.network(device), size.objective, mixed=device.type == "cuda")
    batch = RandomBatches(size, device)(size.batch_size)

    def step() -> Tensor:
        training.micro_batches = 0  # the same draws in every step
        if name == OURS:
            return training(batch)
        with WITHOUT[name]:
            return training(batch)

    return training, step


def measure(options: argparse.Namespace, _: Budget) -> tuple[list[Table], dict[str, Any]]:
    """Whole steps with all fast paths, and without each one."""
    size, device = SIZES[options.size], torch.device(options.device)
    steps = {name: stepping(size, device, name)[1] for name in (OURS, *WITHOUT)}
    rounds = alternate(steps, options.rounds, device, warmup=2)
    table = new_table(f"Fast paths, {options.size}", "a training step", "ms", "longer, %")
    record = {}
    for name, seconds in rounds.seconds.items():
        longer = [100 * (one / ours - 1) for one, ours in zip(seconds, rounds.seconds[OURS], strict=True)]
        record[name] = {"seconds": seconds, "percent_longer": vars(Spread.of(longer))}
        shown = name if name == OURS else f"without {name}"
        table.add_row(shown, f"{1e3 * rounds.median(name):.1f}", str(Spread.of(longer)))
    return [table], {"steps": record}


main = partial(run, measure, __doc__, rounds=15)

if __name__ == "__main__":
    main()
