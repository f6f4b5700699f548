"""One optimizer step, against the same step with plain Newton-Schulz on one matrix after another.

    python -m benchmarks.optimizer --size elf-b --device cpu --json optimizer.json

Both steps take the same gradients and must end in the same weights. They alternate in one process; the ratio
is taken within each round, so that what else the machine does weighs on both.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from elf_lightning.network import PRESETS, ELFNetwork, NetworkShape
from elf_lightning.optim import MuonWithNesterovAdam, muon_parameter_groups
from elf_lightning.optim.newton_schulz import COEFFICIENTS, EPS, ITERATIONS

SIZES = {
    "quickstart": (NetworkShape(hidden_size=256, depth=6, num_heads=8), 384, 7256),
    "elf-b": (PRESETS["elf-b"], 512, 32100),
}
LEARNING_RATE = 1e-3


class PlainStep:
    """The textbook: one parameter after the other, Newton-Schulz on the matrix itself, in float32."""

    def __init__(self, network: nn.Module) -> None:
        self.params = list(network.parameters())
        self.means = [torch.zeros_like(p) for p in self.params]
        self.squares = [torch.zeros_like(p) for p in self.params]
        self.step = 0

    @torch.no_grad()
    def __call__(self) -> None:
        """One step of every parameter."""
        self.step += 1
        for p, mean, square in zip(self.params, self.means, self.squares, strict=True):
            assert p.grad is not None
            beta = 0.95 if p.ndim == 2 else 0.9
            mean.mul_(beta).add_(p.grad, alpha=1 - beta)
            update = mean * (beta / (1 - beta ** (self.step + 1)))
            update += p.grad * ((1 - beta) / (1 - beta**self.step))
            if p.ndim == 2:
                update = plain_newton_schulz(update) * sqrt(max(1.0, p.shape[0] / p.shape[1]))
            else:
                square.mul_(0.999).addcmul_(p.grad, p.grad, value=0.001)
                update /= (square / (1 - 0.999**self.step)).sqrt() + 1e-8
            p.sub_(update, alpha=LEARNING_RATE)


def plain_newton_schulz(matrix: Tensor) -> Tensor:
    """The iteration as the `muon-optimizer` package writes it, in float32."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = matrix.mT if tall else matrix
    x = x / (x.norm() + EPS)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        polynomial = b * gram + c * gram @ gram
        x = a * x + polynomial @ x
    return x.mT if tall else x


@dataclass(frozen=True)
class Result:
    """Medians over all rounds, and the spread of the ratio."""

    size: str
    device: str
    threads: int
    parameters: int
    rounds: int
    plain_seconds: float
    batched_seconds: float
    ratio: float
    ratio_low: float
    ratio_high: float


def with_gradients(size: str, device: str) -> ELFNetwork:
    """A network of the size with random gradients, the same at every call."""
    torch.manual_seed(0)
    shape, latent_size, vocab_size = SIZES[size]
    network = ELFNetwork(shape, latent_size=latent_size, vocab_size=vocab_size, max_length=8).to(device)
    for p in network.parameters():
        p.grad = torch.randn(p.shape).to(device)
    return network


def seconds(step: Callable[[], object], device: str) -> float:
    """Wall time of one step, until the device has finished it."""
    wait: Callable[[], object] = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    wait()
    start = perf_counter()
    step()
    wait()
    return perf_counter() - start


def measure(size: str, device: str, rounds: int) -> Result:
    """Both steps in turn, `rounds` times after one round to warm up."""
    plain_network, batched_network = with_gradients(size, device), with_gradients(size, device)
    plain = PlainStep(plain_network)
    optimizer = MuonWithNesterovAdam(muon_parameter_groups(batched_network), lr=LEARNING_RATE)
    seconds(plain, device), seconds(optimizer.step, device)
    torch.testing.assert_close(
        list(batched_network.parameters()), list(plain_network.parameters()), rtol=1e-4, atol=1e-5
    )
    times = [(seconds(plain, device), seconds(optimizer.step, device)) for _ in range(rounds)]
    ratios = sorted(slow / fast for slow, fast in times)
    return Result(
        size=size,
        device=torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        threads=torch.get_num_threads(),
        parameters=sum(p.numel() for p in batched_network.parameters()),
        rounds=rounds,
        plain_seconds=median(slow for slow, _ in times),
        batched_seconds=median(fast for _, fast in times),
        ratio=median(ratios),
        ratio_low=ratios[0],
        ratio_high=ratios[-1],
    )


def show(result: Result) -> None:
    """Prints the result as a table."""
    table = Table(
        title=f"One optimizer step, {result.size} ({result.parameters:,} parameters), {result.device}"
    )
    for heading in ("plain, s", "batched + Gram, s", "ratio (median)", "ratio (lowest to highest)", "rounds"):
        table.add_column(heading, justify="right")
    table.add_row(
        f"{result.plain_seconds:.4f}",
        f"{result.batched_seconds:.4f}",
        f"{result.ratio:.2f}",
        f"{result.ratio_low:.2f} to {result.ratio_high:.2f}",
        str(result.rounds),
    )
    Console().print(table)


def main() -> None:
    """Measures, prints and writes what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="quickstart")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    arguments = parser.parse_args()
    result = measure(arguments.size, arguments.device, arguments.rounds)
    show(result)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(vars(result), indent=2) + "\n")


if __name__ == "__main__":
    main()
