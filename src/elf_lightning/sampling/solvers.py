"""Solvers of `dz/dt = v(z, t)` from noise (t=0) to data (t=1)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pkgutil import resolve_name
from typing import Any, ClassVar, Self

from torch import Tensor

from elf_lightning.errors import UserError, first_line
from elf_lightning.flow import LogitNormal, seeded_generator
from elf_lightning.sampling.field import LatentField
from elf_lightning.sampling.settings import SamplingSettings

NoiseSource = Callable[[], Tensor]
"""Fresh noise of the latents' shape (B, S, C) at each call, of the path's standard deviation."""
StepObserver = Callable[[int, float, Tensor], bool | None]
"""Called after every step with its number, the time reached and the latents (B, S, C); True stops there."""


class Solver(ABC):
    """A rule for one step; each integration takes a fresh solver, since it may remember steps.

    A subclass registers itself. `SamplingSettings.solver` finds it by its class path, such as
    `my_package.Midpoint`, and by the short name it may be given: `class Midpoint(Solver, name="midpoint")`.
    The short name of another class is refused.

    Attributes:
        registry: all solvers, by short name and by class path.
    """

    registry: ClassVar[dict[str, type["Solver"]]] = {}

    def __init_subclass__(cls, name: str = "", alias: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        path = f"{cls.__module__}.{cls.__qualname__}"
        for key in filter(None, (name, alias, path)):
            other = Solver.registry.get(key, cls)
            if f"{other.__module__}.{other.__qualname__}" != path:
                raise UserError(f"the solver name '{key}' belongs to {other.__qualname__}; choose another")
            Solver.registry[key] = cls

    @classmethod
    def from_settings(cls, settings: SamplingSettings) -> Self:
        """A fresh solver; its constructor takes `settings.solver_options`."""
        return cls(**settings.solver_options)

    @abstractmethod
    def step(self, field: LatentField, z: Tensor, t: float, t_next: float, noise: NoiseSource) -> Tensor:
        """Latents at `t_next`, (B, S, C), from `z` (B, S, C) at `t`."""

    def last_step(self, field: LatentField, z: Tensor, t: float, t_next: float) -> Tensor:
        """Latents at the end, (B, S, C), by Euler's method, without noise."""
        return field.step(z, t, t_next - t)


class Euler(Solver, name="ode", alias="euler"):
    """Euler's method: `z' = z + h v(z, t)` with `h = t' - t`. First order, one network call a step."""

    def step(self, field: LatentField, z: Tensor, t: float, t_next: float, noise: NoiseSource) -> Tensor:
        """Latents at `t_next`, (B, S, C)."""
        return field.step(z, t, t_next - t)


@dataclass(frozen=True)
class Sde(Solver, name="sde"):
    """Adds noise back, then takes an Euler step (arXiv 2605.10938, section 3). One network call a step.

    With `h = t' - t`, `a = clip(1 - gamma(t) h, 0, 1)` and fresh noise `eps` of the path's scale:
    `z_b = a z + (1 - a) eps`, `t_b = a t`, `z' = z_b + (t' - t_b) v(z_b, t_b)`.
    Annealed, `gamma(t) = gamma_end + (gamma - gamma_end) (1 - t)^gamma_power`.

    Args:
        gamma: how much noise is added back, at the start; 0 throughout is `Euler`.
        gamma_end: the same at the end; None keeps it constant.
        gamma_power: how fast it moves from one to the other.
    """

    gamma: float
    gamma_end: float | None = None
    gamma_power: float = 1.0

    @classmethod
    def from_settings(cls, settings: SamplingSettings) -> Self:
        """A fresh solver with the settings' gammas."""
        return cls(settings.gamma, settings.gamma_end, settings.gamma_power, **settings.solver_options)

    def gamma_at(self, t: float) -> float:
        """`gamma(t)`."""
        end = self.gamma if self.gamma_end is None else self.gamma_end
        return float(end + (self.gamma - end) * (1 - t) ** self.gamma_power)

    def step(self, field: LatentField, z: Tensor, t: float, t_next: float, noise: NoiseSource) -> Tensor:
        """Latents at `t_next`, (B, S, C)."""
        kept = min(max(1 - self.gamma_at(t) * (t_next - t), 0.0), 1.0)
        t_back = kept * t
        z_back = field.clamp(noise().lerp(z, kept))
        return field.step(z_back, t_back, t_next - t_back)


class Heun(Solver, name="heun"):
    """Heun's method, the explicit trapezoidal rule: second order, two network calls a step.

    `z' = z + h/2 (v(z, t) + v(z + h v(z, t), t'))` with `h = t' - t`.
    """

    def step(self, field: LatentField, z: Tensor, t: float, t_next: float, noise: NoiseSource) -> Tensor:
        """Latents at `t_next`, (B, S, C)."""
        span, start = t_next - t, field(z, t)
        return z + span / 2 * (start + field(z + span * start, t_next))


class AdamsBashforth(Solver, name="multistep"):
    """Adams-Bashforth over the last two velocities: second order, one network call a step.

    `z' = z + h (v + r/2 (v - v_last))` with `h = t' - t` and `r = h / h_last`; the first step is Euler's.

    Args:
        max_growth: upper bound of `r`; drawn times can lie so close together that the difference of their
            velocities says nothing about the slope.
    """

    def __init__(self, max_growth: float = 2.0) -> None:
        self.max_growth = max_growth
        self._last: tuple[Tensor, float] | None = None

    def step(self, field: LatentField, z: Tensor, t: float, t_next: float, noise: NoiseSource) -> Tensor:
        """Latents at `t_next`, (B, S, C)."""
        span = t_next - t
        slope = velocity = field(z, t)
        if self._last is not None:
            last_velocity, last_span = self._last
            # Compared as products: two drawn times may be equal, and the last step then has no length.
            growth = span / last_span if span < self.max_growth * last_span else self.max_growth
            slope = velocity + growth / 2 * (velocity - last_velocity)
        self._last = velocity, span
        return z + span * slope


class Feedback(Solver, name="feedback"):
    """Calls a generator of `RolloutDistillation` at t=0 alone, one network call a step.

    The noise stays the same, and the field feeds each estimate of the clean latents back; the last one is the
    end. Only the number of times matters.
    """

    def step(self, field: LatentField, z: Tensor, t: float, t_next: float, noise: NoiseSource) -> Tensor:
        """The noise `z`, (B, S, C)."""
        field(z, 0.0)
        return z

    def last_step(self, field: LatentField, z: Tensor, t: float, t_next: float) -> Tensor:
        """The last estimate, (B, S, C)."""
        return z + field(z, 0.0)


def solver_class(name: str) -> type[Solver]:
    """The solver of a short name or class path; the module of an unknown class path is imported."""
    try:
        found = Solver.registry.get(name) or resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        known = ", ".join(key for key in Solver.registry if "." not in key)
        raise UserError(
            f"sampling.solver is {name!r}; known are {known}; or give the class path of your own solver "
            f"({first_line(error)})"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Solver)):
        raise UserError(f"sampling.solver is {name!r}, not a subclass of elf_lightning.sampling.Solver")
    Solver.registry[name] = found
    return found


def time_grid(
    settings: SamplingSettings, distribution: LogitNormal, seed: int, *batch: int
) -> tuple[float, ...]:
    """Rising times from 0 to 1, one more than there are steps; plain numbers, so no step waits for a device.

    The grid `logit_normal` draws from the training distribution by `seed` and, if given, the `batch`.
    """
    if settings.times is not None:
        return tuple(settings.times)
    if settings.grid == "uniform":
        return tuple(step / settings.steps for step in range(settings.steps + 1))
    if settings.grid == "quantiles":
        return (0.0, *distribution.quantiles(settings.steps).tolist(), 1.0)
    inner = distribution.sample(settings.steps - 1, generator=seeded_generator("times", seed, *batch))
    return (0.0, *inner.sort().values.tolist(), 1.0)


def integrate(
    field: LatentField,
    z: Tensor,
    times: Sequence[float],
    solver: Solver,
    noise: NoiseSource,
    observe: StepObserver | None = None,
) -> Tensor:
    """Latents at `times[-1]`, (B, S, C), from `z` (B, S, C) at `times[0]`; the last step adds no noise.

    If `observe` stops it, the latents at the time reached.
    """
    last = len(times) - 2
    for number, (t, t_next) in enumerate(pairwise(times)):
        more = number < last
        z = solver.step(field, z, t, t_next, noise) if more else solver.last_step(field, z, t, t_next)
        if observe is not None and observe(number, t_next, z):
            break
    return z
