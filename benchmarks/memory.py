"""Peak memory of a training step's losses and gradients, by formula and as measured.

Gradients grow while activations are let go, so that the sum of all parts lies above the peak where a batch is
small. `whole step` adds weights, their average and the optimizer's latent_statistics.

    python -m benchmarks.memory --size elf-b --batch 2 --json memory.json
    python -m benchmarks.memory --size elf-b --batch 16 --device cuda --precision bf16
"""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any

import torch
from rich.table import Table
from torch import UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.rounds import arguments, report
from benchmarks.sizes import SIZES, Size
from benchmarks.train_step import ProductTraining
from elf_lightning.network import ELFNetwork
from elf_lightning.network.memory import activation_bytes, head_bytes
from elf_lightning.objectives import StepKey
from elf_lightning.optim.groups import split_parameters


class PeakBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The most bytes that results of operators have held at a time; what was there before does not count."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live: int = 0
        self.peak: int = 0
        self._seen: weakref.WeakSet[UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {id(leaf.untyped_storage()) for leaf in _tensors((args, kwargs))}
        result = func(*args, **kwargs or {})
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            if id(storage) not in known and storage not in self._seen:
                self._seen.add(storage)
                self.live += storage.nbytes()
                weakref.finalize(storage, self._freed, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return result

    def _freed(self, size: int) -> None:
        self.live -= size


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def formula_bytes(training: ProductTraining, decode_rows: int) -> dict[str, int]:
    """What the step needs besides the batch and the network, by what it is for."""
    network = training.network
    rows, length = training.batch.input_ids.shape
    return {
        "activations": activation_bytes(network, rows, length, 2 if training.mixed else 4),
        "heads": head_bytes(network, rows, length, decode_rows),
        "gradients": sum(4 * p.numel() for p in network.parameters()),
    }


def kept_bytes(network: ELFNetwork) -> int:
    """Weights, their average and the optimizer's latent_statistics, which are there between steps too, by formula."""
    matrices, others = (sum(p.numel() for p in part.values()) for part in split_parameters(network))
    return 4 * (2 * (matrices + others) + matrices + 2 * others)


def measured_bytes(training: ProductTraining, decode_rows: int, self_cond_rows: int) -> int:
    """Peak of one step's losses and gradients, beyond what was there before."""
    x = training.batch.latents
    draws = training.objective.draw(x.shape, StepKey(0, 0, 0), x.device)
    draws = draws.with_counts(decode_rows, self_cond_rows)
    if x.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(x.device)
        before = torch.cuda.memory_allocated(x.device)
        training.backward(draws)
        peak_bytes: int = torch.cuda.max_memory_allocated(x.device)
        return peak_bytes - before
    with PeakBytes() as peak:
        training.backward(draws)
    return int(peak.peak)


def compare(size: Size, device: torch.device, mixed: bool) -> tuple[int, dict[str, int]]:
    """Measured bytes of losses and gradients, and those of the formula.

    A fifth of the rows decodes and two fifths self-condition, a row of each at least if there are two.
    """
    training = ProductTraining(size, device, mixed)
    rows = size.batch_size
    decode = max(1, round(0.2 * rows))
    self_cond = min(rows - decode, max(1, round(0.4 * rows)))
    return measured_bytes(training, decode, self_cond), formula_bytes(training, decode)


def main() -> None:
    """Measures, prints and writes what the command line asks for."""
    parser = arguments(__doc__, size="elf-b")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    options = parser.parse_args()
    size = replace(SIZES[options.size], batch_size=options.batch)
    table = Table("", title=f"Memory of losses and gradients, {options.size}, {options.batch} rows, MB")
    record, kept = {}, kept_bytes(size.network())
    for checkpointing in (False, True):
        shape = replace(size.shape, gradient_checkpointing=checkpointing)
        measured, formula = compare(
            replace(size, shape=shape), torch.device(options.device), options.precision == "bf16"
        )
        name = "with gradient checkpointing" if checkpointing else "without"
        record[name] = {"measured": measured, **formula, "kept": kept}
        if not checkpointing:
            for heading in (*formula, "by formula", "measured", "whole step"):
                table.add_column(heading, justify="right")
        sum_of_parts = sum(formula.values())
        numbers = (*formula.values(), sum_of_parts, measured, sum_of_parts + kept)
        table.add_row(name, *(f"{number / 1e6:,.0f}" for number in numbers))
    report([table], {"size": options.size, "rows": options.batch, "bytes": record}, options)


if __name__ == "__main__":
    main()
