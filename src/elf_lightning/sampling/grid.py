"""The times at which a sampler steps from noise to data."""

from __future__ import annotations

from elf_lightning.flow import LogitNormal, seeded_generator
from elf_lightning.sampling.settings import SamplingSettings


def time_grid(
    settings: SamplingSettings, distribution: LogitNormal, seed: int, *batch: int
) -> tuple[float, ...]:
    """Rising times from 0 to 1, one more than there are steps; plain numbers, so no step waits for a device.

    Args:
        settings: the number of steps and the kind of grid, or the times themselves.
        distribution: the training distribution of times, for the grid `logit_normal`.
        seed: of the draws from it; all batches of a request have the same.
        batch: numbers that tell batches apart, for draws of their own.
    """
    if settings.times is not None:
        return tuple(settings.times)
    if settings.grid == "uniform":
        return tuple(step / settings.steps for step in range(settings.steps + 1))
    inner = distribution.sample(settings.steps - 1, generator=seeded_generator("times", seed, *batch))
    return (0.0, *inner.sort().values.tolist(), 1.0)
