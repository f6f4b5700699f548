"""Solvers on fields whose solution is known."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from elf_lightning.errors import UserError
from elf_lightning.sampling import (
    AdamsBashforth,
    Euler,
    Feedback,
    Heun,
    SamplingSettings,
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

    def step(self, z: Tensor, t: float, span: float) -> Tensor:
        return z + span * self(z, t)

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


def test_observer_stops_the_integration() -> None:
    reached: list[float] = []

    def stop_after_two(number: int, t: float, z: Tensor) -> bool:
        reached.append(t)
        return number == 1

    integrate(
        Swing(), torch.ones(1, 1, 1), [0.0, 0.2, 0.5, 1.0], Euler(), lambda: torch.ones(1), stop_after_two
    )
    assert reached == [0.2, 0.5]


def test_annealed_gamma_follows_its_formula() -> None:
    annealed = Sde(gamma=3.0, gamma_end=1.0, gamma_power=2.0)
    assert [annealed.gamma_at(t) for t in (0.0, 0.5, 1.0)] == [3.0, 1.5, 1.0]
    assert Sde(1.7).gamma_at(0.3) == 1.7


def test_annealed_noise_is_taken_at_the_start_of_the_step() -> None:
    """`a = 1 - gamma(t) h` of the noise-free half shows in the time at which the field is evaluated."""
    asked: list[float] = []

    class Watched(Swing):
        def __call__(self, z: Tensor, t: float) -> Tensor:
            asked.append(t)
            return super().__call__(z, t)

    start = torch.ones(1, 1, 1)
    times = [0.0, 0.3, 0.7, 1.0]
    integrate(Watched(), start, times, Sde(2.0, 0.0), lambda: torch.zeros_like(start))
    assert asked == [0.0, 0.3 * (1 - 2.0 * 0.7 * (0.7 - 0.3)), 0.7]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *(("ode", Euler), ("euler", Euler), ("sde", Sde), ("heun", Heun), ("multistep", AdamsBashforth)),
        ("feedback", Feedback),
    ],
)
def test_short_names(name: str, expected: type[Solver]) -> None:
    assert type(SamplingSettings(solver=name).build_solver()) is expected


def test_each_integration_gets_a_fresh_solver_with_its_options() -> None:
    settings = SamplingSettings(solver="multistep", solver_options={"max_growth": 1.5})
    first, second = settings.build_solver(), settings.build_solver()
    assert first is not second
    assert isinstance(first, AdamsBashforth)
    assert first.max_growth == 1.5
    annealed = SamplingSettings(gamma=2.0, gamma_end=0.5, gamma_power=3.0).build_solver()
    assert isinstance(annealed, Sde)
    assert (annealed.gamma, annealed.gamma_end, annealed.gamma_power) == (2.0, 0.5, 3.0)


OWN_SOLVER = """
from elf_lightning.sampling import Solver

class Midpoint(Solver, name="midpoint"):
    def __init__(self, fraction: float = 0.5) -> None:
        self.fraction = fraction

    def step(self, field, z, t, t_next, noise):
        span = t_next - t
        half = field(z + self.fraction * span * field(z, t), t + self.fraction * span)
        return z + span * half
"""


def test_own_solver_by_class_path_and_then_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_solvers.py").write_text(OWN_SOLVER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(Solver, "registry", dict(Solver.registry))
    assert "own_solvers.Midpoint" not in Solver.registry
    assert "own_solvers" not in sys.modules, "asking imports nothing"
    settings = SamplingSettings(solver="own_solvers.Midpoint", solver_options={"fraction": 0.5})
    assert "own_solvers.Midpoint" in Solver.registry
    assert order(settings.build_solver, math.exp(math.sin(3))) == pytest.approx(2, abs=0.15)
    assert type(SamplingSettings(solver="midpoint").build_solver()).__name__ == "Midpoint"


def test_a_short_name_belongs_to_one_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Solver, "registry", dict(Solver.registry))
    with pytest.raises(UserError, match="'heun' belongs to Heun"):

        class Other(Heun, name="heun"):
            """Not Heun's."""
