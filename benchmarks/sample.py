"""Sampling steps, with and without classifier-free guidance, against the obvious way to make them.

    python -m benchmarks.sample --size quickstart --device cpu --compile --json sample.json

All ways start from the same noise and must end in the same latents. The plain way asks for both heads at
every step; beside it stands the same with the token head at the end alone. `bound` is what the ratio would be
if nothing but matrix products took time, from the FLOPs of each way by formula.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from benchmarks.peak import measured_peak
from benchmarks.plain_network import both_heads
from benchmarks.plain_sampling import one_head, plain_flops, plain_sample
from benchmarks.rounds import Rounds, alternate, arguments, report
from benchmarks.sizes import SIZES, Size
from elf_lightning.batch import LatentPromptBatch
from elf_lightning.flow import LogitNormal, RectifiedPath
from elf_lightning.network import ELFNetwork
from elf_lightning.network.flops import sampling_flops
from elf_lightning.sampling import Sampler, SamplingSettings, time_grid
from elf_lightning.sampling.noise import sequence_noise

PLAIN, ONE_HEAD, SAMPLER, COMPILED = "plain", "plain, one head", "sampler", "sampler, compiled"
Way = Callable[[], tuple[Tensor, Tensor]]
"""Samples once: latents (B, S, C) and tokens (B, S)."""
KINDS = {
    "without CFG": SamplingSettings(solver="sde", guidance=3.0),
    "with CFG": SamplingSettings(solver="ode", guidance=1.0, cfg_scale=2.0),
}
"""As published for text alone, and for text that answers to a condition, which here is half of the row."""


@dataclass(frozen=True)
class Case:
    """Rows to sample in one batch, and how.

    Attributes:
        network: what to sample from.
        prompt: the rows.
        settings: how many steps, and of which kind.
    """

    network: ELFNetwork
    prompt: LatentPromptBatch
    settings: SamplingSettings

    @classmethod
    def of(cls, size: Size, kind: str, rows: int, steps: int, device: str) -> Case:
        """A network of random weights, and rows whose first half is given if there is CFG."""
        settings = replace(KINDS[kind], steps=steps, grid="uniform")
        network = size.network(device).eval()
        given = size.max_length // 2 if settings.cfg_scale != 1 else 0
        mask = (torch.arange(size.max_length) < given).expand(rows, -1)
        generator = torch.Generator().manual_seed(1)
        latents = torch.randn(rows, size.max_length, size.latent_size, generator=generator) * mask[..., None]
        ids = torch.zeros(rows, size.max_length, dtype=torch.int64)
        return cls(network, LatentPromptBatch(torch.arange(rows), ids, mask, latents).to(device), settings)

    def plain(self, forward: Callable[..., tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Latents and tokens of `plain_sample`, from the noise that the sampler starts from."""
        path, latents = RectifiedPath(), self.prompt.latents
        noise = sequence_noise(0, self.prompt.index, latents.shape[1:], path.noise_scale, latents.device)
        times = time_grid(self.settings, LogitNormal(), 0)
        return plain_sample(self.network, path, self.settings, self.prompt, times, noise, forward)

    def sampled(self, compile: bool) -> tuple[Tensor, Tensor]:
        """Latents and tokens of the product."""
        sampler = Sampler(
            self.network, RectifiedPath(), self.settings, LogitNormal(), eos_id=-1, pad_id=0, compile=compile
        )
        result = sampler.sample(self.prompt, 0)
        return result.latents, result.tokens

    def ways(self, compile: bool) -> dict[str, Way]:
        """All ways to sample, the baseline first."""
        ways: dict[str, Way] = {
            PLAIN: partial(self.plain, both_heads),
            ONE_HEAD: partial(self.plain, one_head),
            SAMPLER: partial(self.sampled, False),
        }
        return ways | ({COMPILED: partial(self.sampled, True)} if compile else {})

    def flops(self, way: str) -> int:
        """FLOPs of the whole run, by formula."""
        passes = 2 if self.settings.cfg_scale != 1 else 1
        rows, length = self.prompt.condition_mask.shape
        if way in (PLAIN, ONE_HEAD):
            return plain_flops(self.network, rows, length, self.settings.steps, passes, way == PLAIN)
        return sampling_flops(self.network, rows, length, self.settings.steps, passes)


def differences(ways: dict[str, Way], exact: bool) -> dict[str, dict[str, float]]:
    """How far each way ends from the first one: largest difference of latents, and share of other tokens.

    Raises:
        AssertionError: if they should be the same and differ by more than rounding.
    """
    (_, baseline), *others = ways.items()
    latents, tokens = baseline()
    differing = {}
    for name, way in others:
        found, chosen = way()
        if exact:
            torch.testing.assert_close(found, latents, atol=1e-3, rtol=1e-3)
            torch.testing.assert_close(chosen, tokens)
        differing[name] = {
            "latents": (found - latents).abs().max().item(),
            "tokens": (chosen != tokens).float().mean().item(),
        }
    return differing


def case_table(title: str, case: Case, rounds: Rounds, peak: float) -> Table:
    """One line for each way; `peak` in FLOPs a second."""
    table = Table("", title=title)
    for heading in ("ms a step", "tokens/s", "times plain", "bound", "of the peak"):
        table.add_column(heading, justify="right")
    rows, length = case.prompt.condition_mask.shape
    for way in rounds.seconds:
        seconds, flops = rounds.time(way).median, case.flops(way)
        table.add_row(
            way,
            f"{1e3 * seconds / case.settings.steps:.2f}",
            f"{rows * length / seconds:,.0f}",
            str(rounds.ratio(way, PLAIN)),
            f"{case.flops(PLAIN) / flops:.2f}",
            f"{flops / seconds / peak:.1%}",
        )
    return table


def measure(options: argparse.Namespace) -> tuple[list[Table | str], dict[str, Any]]:
    """Tables and records of all kinds of sampling."""
    size, records = SIZES[options.size], {}
    tables: list[Table | str] = []
    rows = options.rows or size.batch_size
    peak = measured_peak(options.device, torch.bfloat16 if options.bf16 else torch.float32)
    for kind in KINDS:
        case = Case.of(size, kind, rows, options.steps, options.device)
        ways = case.ways(options.compile)
        differing = differences(ways, exact=not options.bf16)
        rounds = alternate(ways, options.rounds, options.device)
        title = f"Sampling {kind}: {options.size}, {rows} rows of {size.max_length}, {options.steps} steps"
        tables.append(case_table(title, case, rounds, peak))
        flops = {way: case.flops(way) for way in ways}
        records[kind] = {**rounds.record(PLAIN), "flops": flops, "differences": differing}
    tables.append(f"peak measured: {peak / 1e9:,.0f} GFLOP/s")
    return tables, {"rows": rows, "peak": peak, "steps": options.steps, "bf16": options.bf16, **records}


def main() -> None:
    """Measures, prints and writes what the command line asks for."""
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, help="texts in the batch (default: the size's batch)")
    parser.add_argument("--steps", type=int, default=16, help="solver steps before decoding (default: 16)")
    parser.add_argument("--compile", action="store_true", help="measure the compiled sampler too")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    options = parser.parse_args()
    mixed = torch.autocast(torch.device(options.device).type, torch.bfloat16, enabled=options.bf16)
    with mixed:
        tables, records = measure(options)
    report(tables, {"size": options.size, **records}, options)


if __name__ == "__main__":
    main()
