"""Solvers on fields whose solution is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from elf_lightning.sampling import (
    AdamsBashforth,
    Euler,
    Heun,
    Sde,
    Solver,
    integrate,
)


class Swing:
    """`dz/dt = 3 cos(3t) z`, whose solution is `z_0 exp(sin 3t)`."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, z: Tensor, t: float) -> Tensor:
        self.calls += 1
        return 3 * math.cos(3 * t) * z

    def clamp(self, z: Tensor) -> Tensor:
        return z


def end(solver: Solver, steps: int, power: float = 1.0) -> tuple[float, int]:
    field = Swing()
    times = [(step / steps) ** power for step in range(steps + 1)]
    start = torch.ones(1, 1, 1, dtype=torch.float64)
    z = integrate(field, start, times, solver, lambda: torch.zeros_like(start))
    return z.item(), field.calls


def order(make: Callable[[], Solver], exact: float, power: float = 1.0) -> float:
    coarse, fine = (abs(end(make(), steps, power)[0] - exact) for steps in (64, 128))
    return math.log2(coarse / fine)


@pytest.mark.parametrize(
    ("make", "expected"),
    [(Euler, 1), (Heun, 2), (AdamsBashforth, 2)],
    ids=lambda value: str(value),
)
@pytest.mark.parametrize("power", [1.0, 1.5])
def test_error_shrinks_with_the_order(make: Callable[[], Solver], expected: int, power: float) -> None:
    """On even steps and on steps that grow."""
    assert order(make, math.exp(math.sin(3)), power) == pytest.approx(expected, abs=0.15)


def test_sde_without_its_noise_is_first_order() -> None:
    """With many steps the noise vanishes and `dz/dt = (1 + gamma*t) v - gamma*z` remains."""
    gamma = 1.5
    drift = math.sin(3) + gamma * (math.sin(3) + (math.cos(3) - 1) / 3)
    assert order(lambda: Sde(gamma), math.exp(drift - gamma)) == pytest.approx(1, abs=0.15)


def test_sde_without_gamma_is_euler() -> None:
    assert end(Sde(0.0), 10) == end(Euler(), 10)


@pytest.mark.parametrize(("solver", "calls"), [(Euler(), 8), (Heun(), 15), (AdamsBashforth(), 8)])
def test_network_calls(solver: Solver, calls: int) -> None:
    assert end(solver, 8)[1] == calls


@pytest.mark.parametrize("apart", [1e-7, 0.0])
def test_multistep_survives_times_that_meet(apart: float) -> None:
    times = [0.0, 0.3, 0.3 + apart, 0.8, 1.0]
    start = torch.ones(1, 1, 1, dtype=torch.float64)

    class Restless(Swing):
        """Self-conditioning: the field answers differently at the same time."""

        def __call__(self, z: Tensor, t: float) -> Tensor:
            return super().__call__(z, t) + 0.1 * (self.calls % 2)

    z = integrate(Restless(), start, times, AdamsBashforth(), lambda: torch.zeros_like(start))
    assert z.item() == pytest.approx(math.exp(math.sin(3)), abs=1)


def test_multistep_survives_a_time_drawn_three_times() -> None:
    start = torch.ones(1, 1, 1, dtype=torch.float64)
    ends = [
        integrate(Swing(), start, times, AdamsBashforth(), lambda: torch.zeros_like(start)).item()
        for times in ([0.0, 0.3, 0.3, 0.3, 1.0], [0.0, 0.3, 1.0])
    ]
    assert ends[0] == pytest.approx(ends[1])


def test_last_step_adds_no_noise() -> None:
    def refuse() -> Tensor:
        raise AssertionError("noise was drawn")

    integrate(Swing(), torch.ones(1, 1, 1), [0.0, 1.0], Sde(1.5), refuse)
