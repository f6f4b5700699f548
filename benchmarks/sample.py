"""Sampling with and without classifier-free guidance, ours and the baseline.

    python -m benchmarks.sample --size bible --device cpu --compile --json sample.json
    python -m benchmarks.sample --size elf-b --flops-only
    python -m benchmarks.sample --size elf-b --device cuda --kind sde --steps 32 --compile --bf16

Both start from the same noise and must end in the same latents. The baseline computes both heads at every
step, `one head` the token head at the end alone. `--flops-only` counts FLOPs and samples nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from benchmarks.baseline.network import both_heads, latent_head_only
from benchmarks.baseline.sampling import Forward, baseline_sample, baseline_sampling_flops
from benchmarks.measure import (
    Budget,
    Rounds,
    alternate,
    counted_flops,
    measured_peak,
    new_table,
    ratio_table,
    run,
)
from benchmarks.sizes import SIZES, Size
from elf_lightning.batch import LatentPromptBatch
from elf_lightning.flow import LogitNormal, RectifiedPath
from elf_lightning.network import ELFNetwork
from elf_lightning.sampling import Sampler, SamplingSettings, time_grid
from elf_lightning.sampling.sampler import sequence_noise

BASELINE, ONE_HEAD, OURS = "baseline", "baseline, one head", "ours"
COMPILED, GRAPHS = "ours, compiled", "ours, compiled, CUDA graphs"
COMPILING_SECONDS = 45.0
"""What compiling and a few rounds take, about."""
Sample = Callable[[], tuple[Tensor, Tensor]]
"""Samples once: latents (B, S, C) and tokens (B, S)."""
KINDS = {
    "sde": SamplingSettings(solver="sde", guidance=3.0),
    "ode with CFG": SamplingSettings(solver="ode", guidance=1.0, cfg_scale=2.0),
}
"""The published settings for unconditional text and for text-to-text, whose condition is half a sequence."""


@dataclass(frozen=True)
class Case:
    """A batch of sequences to sample from a network with random weights."""

    size: Size
    settings: SamplingSettings
    network: ELFNetwork
    to_compile: ELFNetwork
    prompt: LatentPromptBatch

    @classmethod
    def of(cls, size: Size, kind: str, steps: int, device: str) -> Case:
        """A random network and `size.batch_size` sequences."""
        settings = replace(KINDS[kind], steps=steps, grid="uniform")
        given = size.max_length // 2 if settings.cfg_scale != 1 else 0
        mask = (torch.arange(size.max_length) < given).expand(size.batch_size, -1)
        generator = torch.Generator().manual_seed(1)
        latents = torch.randn(*mask.shape, size.latent_size, generator=generator) * mask[..., None]
        prompt = LatentPromptBatch(torch.arange(len(mask)), torch.zeros(mask.shape).long(), mask, latents)
        network = size.network(device).eval()
        return cls(size, settings, network, deepcopy(network), prompt.to(device))

    def baseline(self, forward: Forward) -> tuple[Tensor, Tensor]:
        """Latents and tokens of the baseline, from the noise that ours starts from."""
        path, latents = RectifiedPath(), self.prompt.latents
        noise = sequence_noise(0, self.prompt.index, latents.shape[1:], path.noise_scale, latents.device)
        times = time_grid(self.settings, LogitNormal(), 0)
        return baseline_sample(self.network, path, self.settings, self.prompt, times, noise, forward)

    def ours(self, compile: bool) -> tuple[Tensor, Tensor]:
        """Latents and tokens of our sampler."""
        network = self.to_compile if compile else self.network
        model = (network, RectifiedPath(), self.settings, LogitNormal())
        result = Sampler(*model, eos_id=-1, pad_id=0, compile=compile).sample(self.prompt, 0)
        return result.latents, result.tokens

    def samplers(self) -> dict[str, Sample]:
        """Those that are not compiled, the baseline first."""
        one_head = partial(self.baseline, latent_head_only)
        return {
            BASELINE: partial(self.baseline, both_heads), ONE_HEAD: one_head, OURS: partial(self.ours, False)
        }  # fmt: skip


def our_sampling_flops(size: Size, steps: int, passes: int) -> int:
    """FLOPs of our sampling."""
    network = size.network("meta")
    time, times = torch.empty(1, device="meta"), torch.empty(size.batch_size, device="meta")
    z = torch.empty(passes * size.batch_size, size.max_length, size.latent_size, device="meta")
    with torch.no_grad():
        prefix = partial(network.prefix, time, time, time)
        step = counted_flops(lambda: network.latent_head(network.hidden(prefix(), z, z)))
        decoding = counted_flops(lambda: network.decode_tokens(z[: size.batch_size], times))
    return steps * step + decoding


def counted(size: Size, kind: str, steps: int) -> dict[str, int]:
    """FLOPs of sampling a batch."""
    passes = 1 if KINDS[kind].cfg_scale == 1 else 2
    ours = our_sampling_flops(size, steps, passes)
    baseline = partial(baseline_sampling_flops, size, size.batch_size, steps, passes)
    flops = {BASELINE: baseline(both_heads), ONE_HEAD: baseline(latent_head_only)}
    return flops | dict.fromkeys((OURS, COMPILED, GRAPHS), ours)


def differences(samplers: dict[str, Sample], exact: bool) -> dict[str, dict[str, float]]:
    """How far each ends from the first: largest difference of latents, and fraction of other tokens.

    Raises:
        AssertionError: if they should be the same and differ by more than rounding.
    """
    (_, first), *others = samplers.items()
    latents, tokens = first()
    found = {}
    for name, sampler in others:
        ended, chosen = sampler()
        if exact:
            torch.testing.assert_close(ended, latents, atol=1e-3, rtol=1e-3)
            torch.testing.assert_close(chosen, tokens)
        apart = (ended - latents).abs().max().item()
        found[name] = {"latents": apart, "tokens": (chosen != tokens).float().mean().item()}
    return found


def groups(case: Case, compile: bool, cuda: bool) -> dict[str, dict[str, Sample]]:
    """Samplers that are measured together, always beside the baseline; each group compiles anew."""
    samplers = case.samplers()
    pair = {BASELINE: samplers[BASELINE]}
    compiled = [COMPILED, GRAPHS][: compile + (compile and cuda)]
    return {"eager": samplers} | {name: pair | {name: partial(case.ours, True)} for name in compiled}


def measure_group(
    name: str, samplers: dict[str, Sample], options: argparse.Namespace
) -> tuple[Rounds, dict[str, Any]]:
    """Times of a group, and the differences of what is sampled."""
    torch.compiler.reset()
    graphs = torch._inductor.config.patch({"triton.cudagraphs": name == GRAPHS})
    with graphs, torch.autocast(torch.device(options.device).type, torch.bfloat16, enabled=options.bf16):
        found = differences(samplers, exact=not options.bf16)
        return alternate(samplers, options.rounds, options.device), found


def measure_kind(
    kind: str, size: Size, options: argparse.Namespace, budget: Budget
) -> tuple[list[Table], dict[str, Any]]:
    """All groups of one kind of sampling."""
    flops, steps, device = counted(size, kind, options.steps), options.steps, torch.device(options.device)
    title = f"{kind}: {options.size}, {size.batch_size} sequences of {size.max_length}, {steps} steps"
    tables, record = [new_table(title, "FLOPs", "GFLOPs", "times ours")], dict[str, Any](flops=flops)
    for name in (BASELINE, ONE_HEAD, OURS):
        tables[0].add_row(name, f"{flops[name] / 1e9:,.1f}", f"{flops[name] / flops[OURS]:.2f}")
    if options.flops_only:
        return tables, record
    peak = measured_peak(device, torch.bfloat16 if options.bf16 else torch.float32)
    case = Case.of(size, kind, steps, options.device)
    for name, samplers in groups(case, options.compile, device.type == "cuda").items():
        compiles, skip = name != "eager", name != "eager" and options.eager_only
        if not budget.allows(f"{kind}, {name}", COMPILING_SECONDS * compiles, skip):
            continue
        try:
            rounds, differing = measure_group(name, samplers, options)
        except RuntimeError as error:  # of the compiler: the other groups can still run
            budget.left_out.append(f"{kind}, {name}: {str(error).splitlines()[0]}")
            continue
        record[name] = rounds.record(BASELINE) | {"differences": differing}
        table = ratio_table(f"{title}; ms a step", rounds, BASELINE, flops, peak, steps)
        speeds = {one: size.batch_size / rounds.median(one) for one in samplers}
        table.caption = ", ".join(f"{one}: {speed:.2f} texts/s" for one, speed in speeds.items())
        tables.append(table)
    return tables, record


def measure(options: argparse.Namespace, budget: Budget) -> tuple[list[Table], dict[str, Any]]:
    """All kinds of sampling, or the one that is asked for."""
    size, cuda = SIZES[options.size], torch.device(options.device).type == "cuda"
    size = replace(size, batch_size=options.batch_size or size.batch_size)
    torch.set_float32_matmul_precision("high" if options.bf16 else "highest")
    tables, records = list[Table](), dict[str, Any]()
    for kind in KINDS if options.kind == "both" else [options.kind]:
        found, records[kind] = measure_kind(kind, size, options, budget)
        tables += found
    memory = torch.cuda.max_memory_allocated(options.device) / 2**30 if cuda else None
    return tables, {"batch_size": size.batch_size, "peak_gib": memory, **records}


OPTIONS = {"batch_size": int, "steps": 16, "kind": ("both", *KINDS)}
SWITCHES = dict.fromkeys(("compile", "eager_only", "bf16", "flops_only"), False)
main = partial(run, measure, __doc__, **OPTIONS, **SWITCHES)

if __name__ == "__main__":
    main()
