"""A whole training step, from token ids to averaged weights, in all the ways that are measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.batches import encoded
from benchmarks.sizes import SIZES
from benchmarks.train_parts import timed_parts
from benchmarks.train_step import PlainTraining, ProductTraining
from elf_lightning.encoders import PretrainedEncoder
from elf_lightning.network.flops import training_step_flops


@dataclass(frozen=True)
class Case:
    """One way to train.

    Attributes:
        size: name of the network's size.
        rows: of a step.
        compiled: through `torch.compile`.
        checkpointing: recompute blocks in the backward pass.
        matmul: precision of what stays in float32: `high` is TF32, `highest` is none of it.
        plain: the obvious way, `benchmarks.plain`.
    """

    size: str
    rows: int
    compiled: bool = True
    checkpointing: bool = False
    matmul: str = "high"
    plain: bool = False

    @property
    def name(self) -> str:
        """As tables have it."""
        how = ["plain"] if self.plain else []
        how += ["compiled" if self.compiled else "eager"]
        how += ["checkpointing"] if self.checkpointing else []
        how += ["no TF32"] if self.matmul == "highest" else []
        return f"{self.size}, {self.rows} rows, {', '.join(how)}"


def cases(size: str, rows: int) -> Iterator[Case]:
    """Those that count most first."""
    yield Case(size, rows)
    yield Case(size, rows, plain=True)
    yield Case(size, rows, compiled=False)
    yield Case(size, rows, compiled=False, plain=True)
    yield Case(size, rows, checkpointing=True)
    yield Case(size, rows, matmul="highest")
    yield Case(size, rows // 4)
    yield Case(size, rows // 4, plain=True)  # all logits of more rows may not fit
    for factor in (0.5, 2, 4, 8):
        yield Case(size, int(rows * factor))
    yield Case(size, rows, compiled=False, checkpointing=True)
    for factor in (4, 8):
        yield Case(size, rows * factor, checkpointing=True)
    if size == "elf-b":
        for larger in ("elf-m", "elf-l"):
            for checkpointing in (False, True):
                yield Case(larger, SIZES[larger].batch_size, checkpointing=checkpointing)


class Step:
    """A whole training step from token ids, and its parts.

    Args:
        case: how to train.
        encoder: makes the latents.
        device: where.
    """

    def __init__(self, case: Case, encoder: PretrainedEncoder, device: torch.device) -> None:
        torch.set_float32_matmul_precision(case.matmul)
        size = SIZES[case.size]
        shape = replace(size.shape, gradient_checkpointing=case.checkpointing)
        kind = PlainTraining if case.plain else ProductTraining
        own = replace(size, shape=shape, batch_size=case.rows)
        self.training = kind(own, device, mixed=device.type == "cuda")
        self.encoder, self.device = encoder, device
        self.rows = self.training.batch
        if case.compiled:
            torch.compiler.reset()
            self.compile(case.plain)

    def compile(self, plain: bool) -> None:
        """The product's way, or the whole loss of the plain one."""
        if plain:
            self.training.loss = torch.compile(self.training.loss)  # type: ignore[method-assign]
        else:
            self.training.network.compile()

    def __call__(self) -> Tensor:
        """From ids to averaged weights; the loss."""
        with self.training.precision():
            self.training.batch = encoded(self.encoder, self.rows)
        return self.training()

    def flops(self) -> float:
        """The work that a step needs, on average of the draws, whichever way it is done."""
        rows, length = self.rows.input_ids.shape
        counts = self.training.objective.mean_counts(rows)
        return training_step_flops(self.training.network, rows, length, *counts)

    def parts(self, rounds: int) -> dict[str, float]:
        """Median seconds of each part alone."""
        lasted = timed_parts(self.training, self.encoder, rounds)
        return {name: lasted.time(name).median for name in lasted.seconds}
