"""One optimizer step, against the same step with plain Newton-Schulz on one matrix after another.

    python -m benchmarks.optimizer --size elf-b --device cpu --json optimizer.json

Both steps take the same gradients and must end in the same weights.
"""

from __future__ import annotations

import torch

from benchmarks.peak import measured_peak
from benchmarks.plain import PlainStep, plain_newton_schulz_flops
from benchmarks.rounds import alternate, arguments, report, rounds_table
from benchmarks.sizes import SIZES, Size
from elf_lightning.network import ELFNetwork
from elf_lightning.optim import MuonSettings
from elf_lightning.optim.groups import split_parameters
from elf_lightning.optim.newton_schulz import flops

LEARNING_RATE = 1e-3


def optimizer_flops(network: ELFNetwork) -> dict[str, int]:
    """FLOPs of the matrix products in a step, by formula: those of Newton-Schulz, in both ways."""
    matrices, _ = split_parameters(network)
    shapes = [matrix.shape for matrix in matrices.values()]
    return {
        "product": sum(flops(*shape) for shape in shapes),
        "plain": sum(plain_newton_schulz_flops(*shape) for shape in shapes),
    }


def with_gradients(size: Size, device: str) -> ELFNetwork:
    """A network of the size with random gradients, the same at every call."""
    network = size.network(device)
    generator = torch.Generator().manual_seed(1)
    for p in network.parameters():
        p.grad = torch.randn(p.shape, generator=generator).to(device)
    return network


def main() -> None:
    """Measures, prints and writes what the command line asks for."""
    options = arguments(__doc__).parse_args()
    size, device = SIZES[options.size], options.device
    plain_network, product_network = (with_gradients(size, device) for _ in range(2))
    plain = PlainStep(plain_network, LEARNING_RATE)
    product = MuonSettings().build(product_network, LEARNING_RATE).step
    plain(), product()
    torch.testing.assert_close(
        list(product_network.parameters()), list(plain_network.parameters()), rtol=1e-4, atol=1e-5
    )
    rounds = alternate({"plain": plain, "product": product}, options.rounds, device)
    parameters = sum(p.numel() for p in product_network.parameters())
    spent, peak = optimizer_flops(product_network), measured_peak(device, torch.float32)
    title = f"One optimizer step, {options.size}, {parameters:,} parameters"
    report(
        [rounds_table(title, rounds, "plain", spent, peak), f"peak measured: {peak / 1e9:,.0f} GFLOP/s"],
        {
            "size": options.size,
            "parameters": parameters,
            "flops": spent,
            "peak": peak,
            "steps": rounds.record("plain"),
        },
        options,
    )


if __name__ == "__main__":
    main()
