"""Solvers of `dz/dt = v(z, t)` from noise (t=0) to data (t=1)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from elf_lightning.sampling.field import VelocityField
from elf_lightning.sampling.settings import SamplingSettings

NoiseSource = Callable[[], Tensor]
"""Fresh noise of the latents' shape (B, S, C) at each call, of the path's standard deviation."""
StepObserver = Callable[[int, float, Tensor], None]
"""Called after every step with its number, the time reached and the latents (B, S, C) there."""


class Solver(ABC):
    """One way to make a step; a fresh one for every integration, since it may remember steps."""

    @abstractmethod
    def step(self, field: VelocityField, z: Tensor, t: float, t_next: float, noise: NoiseSource) -> Tensor:
        """Latents at `t_next`, (B, S, C), from `z` (B, S, C) at `t`."""


class Euler(Solver):
    """Euler: first order, one network call a step."""

    def step(self, field: VelocityField, z: Tensor, t: float, t_next: float, noise: NoiseSource) -> Tensor:
        """Latents at `t_next`, (B, S, C)."""
        return z + (t_next - t) * field(z, t)


class Sde(Solver):
    """Goes back towards noise by fresh noise, then an Euler step (arXiv 2605.10938, section 3).

    Args:
        gamma: share of the step by which it goes back, in units of its length; 0 is `Euler`.
    """

    def __init__(self, gamma: float) -> None:
        self.gamma = gamma

    def step(self, field: VelocityField, z: Tensor, t: float, t_next: float, noise: NoiseSource) -> Tensor:
        """Latents at `t_next`, (B, S, C)."""
        kept = min(max(1 - self.gamma * (t_next - t), 0.0), 1.0)
        t_back = kept * t
        z_back = field.clamp(kept * z + (1 - kept) * noise())
        return z_back + (t_next - t_back) * field(z_back, t_back)


class Heun(Solver):
    """Heun's trapezoid: second order, two network calls a step."""

    def step(self, field: VelocityField, z: Tensor, t: float, t_next: float, noise: NoiseSource) -> Tensor:
        """Latents at `t_next`, (B, S, C)."""
        span = t_next - t
        start = field(z, t)
        end = field(z + span * start, t_next)
        return z + span / 2 * (start + end)


class AdamsBashforth(Solver):
    """Adams-Bashforth over the last two velocities: second order, one network call a step.

    Args:
        max_growth: bound on how many times longer than the last step it extrapolates over; drawn times can
            lie so close together that their difference says nothing about the slope.
    """

    def __init__(self, max_growth: float = 2.0) -> None:
        self.max_growth = max_growth
        self._last: tuple[Tensor, float] | None = None

    def step(self, field: VelocityField, z: Tensor, t: float, t_next: float, noise: NoiseSource) -> Tensor:
        """Latents at `t_next`, (B, S, C)."""
        span = t_next - t
        velocity = field(z, t)
        slope = velocity
        if self._last is not None:
            last_velocity, last_span = self._last
            # Compared as products: two drawn times may be the same, and a step then has no length.
            growth = span / last_span if span < self.max_growth * last_span else self.max_growth
            slope = velocity + growth / 2 * (velocity - last_velocity)
        self._last = velocity, span
        return z + span * slope


def make_solver(settings: SamplingSettings) -> Solver:
    """A fresh solver of the kind that the settings name."""
    makers: dict[str, Callable[[], Solver]] = {
        "ode": Euler,
        "sde": lambda: Sde(settings.gamma),
        "heun": Heun,
        "multistep": AdamsBashforth,
    }
    return makers[settings.solver]()


def integrate(
    field: VelocityField,
    z: Tensor,
    times: Sequence[float],
    solver: Solver,
    noise: NoiseSource,
    observe: StepObserver | None = None,
) -> Tensor:
    """Latents at `times[-1]`, (B, S, C), from `z` (B, S, C) at `times[0]`; the last step is Euler's."""
    last = len(times) - 2
    for number, (t, t_next) in enumerate(pairwise(times)):
        chosen = solver if number < last else Euler()
        z = chosen.step(field, z, t, t_next, noise)
        if observe is not None:
            observe(number, t_next, z)
    return z


class _Clock:
    """A field that notes when it is asked."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, z: Tensor, t: float) -> Tensor:
        self.times.append(t)
        return z

    def clamp(self, z: Tensor) -> Tensor:
        return z


def visited_times(times: Sequence[float], solver: Solver) -> list[float]:
    """The times at which `solver` asks for the velocity on its way along `times`, in order.

    They do not depend on the latents, so a run over a single number finds them.
    """
    clock, nothing = _Clock(), torch.zeros(())
    integrate(clock, nothing, times, solver, lambda: nothing)
    return clock.times
