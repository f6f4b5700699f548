"""A training step by part, and beside the obvious way to do it.

    python -m benchmarks.train_step --size quickstart --device cpu --json train_step.json
    python -m benchmarks.train_step --size elf-b --device cuda --precision bf16 --compile --batch 64

Both ways take the same batch, the same draws and the same optimizer settings, in turn, in one process, and
must agree in loss. A part of the product's step is timed on its own, with its inputs ready.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from tempfile import TemporaryDirectory

import torch
from rich.table import Table
from torch import Tensor, nn

from benchmarks.batches import made_up_batch, random_encoder
from benchmarks.optimizer import optimizer_flops
from benchmarks.peak import measured_peak
from benchmarks.plain import PlainAverage, PlainStep, plain_flops, plain_loss
from benchmarks.rounds import Rounds, alternate, arguments, report, rounds_table
from benchmarks.sizes import SIZES, Size
from benchmarks.train_parts import timed_parts
from elf_lightning.network.flops import training_step_flops
from elf_lightning.objectives import Draws, StepKey
from elf_lightning.optim import MuonSettings

LEARNING_RATE, EMA_DECAY, CLIP = 1e-3, 0.999, 1.0


class ProductTraining:
    """Draws, losses, gradients, clipping, optimizer and average as the product has them; a call is a step."""

    def __init__(self, size: Size, device: torch.device, mixed: bool = False) -> None:
        self.network = size.network(device)
        self.objective = size.objective
        self.batch = made_up_batch(size, size.batch_size, device)
        self.mixed = mixed
        self.step = 0
        self.optimizer = MuonSettings().build(self.network, LEARNING_RATE)
        self.weights = [p.detach() for p in self.network.parameters()]
        self.averages = [weight.clone() for weight in self.weights]

    def __call__(self) -> Tensor:
        """One step; its loss, ()."""
        draws = self.objective.draw(
            self.batch.latents.shape, StepKey(0, 0, self.step), self.batch.latents.device
        )
        self.step += 1
        self.network.zero_grad()
        loss = self.backward(draws)
        self.clip()
        self.move()
        self.average()
        return loss

    def backward(self, draws: Draws) -> Tensor:
        """The loss, (), whose gradient the parameters have then."""
        with self.precision():
            loss = self.loss(draws)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    @contextmanager
    def precision(self) -> Iterator[None]:
        """bfloat16 where the network allows it, if asked for."""
        # Without a cache, as Lightning has it.
        with torch.autocast(
            self.batch.latents.device.type, torch.bfloat16, enabled=self.mixed, cache_enabled=False
        ):
            yield

    def loss(self, draws: Draws) -> Tensor:
        """With its graph, ()."""
        return self.objective(self.network, self.batch, draws).total

    def clip(self) -> None:
        """All gradients together, as the Trainer does."""
        nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)

    def move(self) -> None:
        """The optimizer's step."""
        self.optimizer.step()

    def average(self) -> None:
        """As `callbacks.EMA`."""
        torch._foreach_lerp_(self.averages, self.weights, 1 - EMA_DECAY)


class PlainTraining(ProductTraining):
    """The same the obvious way."""

    def __init__(self, size: Size, device: torch.device, mixed: bool = False) -> None:
        super().__init__(size, device, mixed)
        self.plain_step = PlainStep(self.network, LEARNING_RATE)
        self.plain_average = PlainAverage(self.network, EMA_DECAY)
        self.averages = self.plain_average.averages

    def loss(self, draws: Draws) -> Tensor:
        """All rows through everything."""
        return plain_loss(self.objective, self.network, self.batch, draws)[0]

    def clip(self) -> None:
        """One gradient after the other."""
        nn.utils.clip_grad_norm_(self.network.parameters(), CLIP, foreach=False)

    def move(self) -> None:
        """One parameter after the other."""
        self.plain_step()

    def average(self) -> None:
        """One parameter after the other."""
        self.plain_average()


def flops_table(training: ProductTraining, rounds: Rounds, peak: float) -> tuple[Table, dict[str, float]]:
    """FLOPs by formula of both ways, and how much of the measured peak they amount to.

    MFU counts what losses and gradients need alone; what is computed, the optimizer's products too.
    """
    rows, length = training.batch.input_ids.shape
    needed = training_step_flops(training.network, rows, length, *training.objective.mean_counts(rows))
    spent = {"product": needed, "plain": float(plain_flops(training.network, rows, length))}
    moved = optimizer_flops(training.network)
    table = Table("", title=f"GFLOPs; peak measured: {peak / 1e9:,.0f} GFLOP/s")
    for heading in ("losses, gradients", "optimizer", "tokens/s", "MFU", "computed, of the peak"):
        table.add_column(heading, justify="right")
    record = {"peak": peak}
    for way, flops in spent.items():
        seconds = rounds.time(way).median
        of_peak = (flops + moved[way]) / seconds / peak
        record |= {
            f"{way}_flops": flops,
            f"{way}_optimizer_flops": moved[way],
            f"{way}_mfu": needed / seconds / peak,
            f"{way}_of_peak": of_peak,
        }
        table.add_row(
            way,
            f"{flops / 1e9:,.1f}",
            f"{moved[way] / 1e9:,.1f}",
            f"{rows * length / seconds:,.0f}",
            f"{needed / seconds / peak:.1%}",
            f"{of_peak:.1%}",
        )
    return table, record


def main() -> None:
    """Measures, prints and writes what the command line asks for."""
    options = _options()
    size, device = SIZES[options.size], torch.device(options.device)
    size = replace(size, batch_size=options.batch or size.batch_size)
    mixed = options.precision == "bf16"
    product, plain = (kind(size, device, mixed) for kind in (ProductTraining, PlainTraining))
    if options.compile:
        product.network.compile()
    torch.testing.assert_close(product(), plain(), rtol=2e-2 if mixed else 1e-4, atol=1e-5)
    rounds = alternate({"plain": plain, "product": product}, options.rounds, device, warmup=2)
    with TemporaryDirectory() as folder:
        by_part = timed_parts(product, random_encoder(size, folder, device), options.rounds)
    peak = measured_peak(device, torch.bfloat16 if mixed else torch.float32)
    flops, record = flops_table(product, rounds, peak)
    title = f"A training step, {options.size}, {size.batch_size} rows of {size.max_length}"
    by_part_table = Table("part of the product's step", title=title)
    by_part_table.add_column("ms", justify="right")
    for name in by_part.seconds:
        by_part_table.add_row(name, str(by_part.milliseconds(name)))
    report(
        [rounds_table(title, rounds, "plain"), by_part_table, flops],
        {
            "size": options.size,
            "rows": size.batch_size,
            "compiled": options.compile,
            "precision": options.precision,
            "steps": rounds.record("plain"),
            "parts": {name: vars(by_part.time(name)) for name in by_part.seconds},
            **record,
        },
        options,
    )


def _options() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--batch", type=int, help="rows; the size's own by default")
    parser.add_argument("--compile", action="store_true", help="compile the product's network")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    return parser.parse_args()


if __name__ == "__main__":
    main()
