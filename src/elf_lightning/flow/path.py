"""The straight path from noise to data."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from elf_lightning.errors import UserError


def expand_like(values: Tensor, like: Tensor) -> Tensor:
    """`values` (B,) or (B, S) with ones appended to its shape until it broadcasts against `like`."""
    return values.reshape(values.shape + (1,) * (like.ndim - values.ndim))


@dataclass(frozen=True)
class RectifiedPath:
    """Straight line from noise (t=0) to data (t=1), arXiv 2605.10938 section 3.

    Attributes:
        noise_scale: standard deviation of the noise at t=0.
        t_eps: lower bound of `1 - t` in velocities, which keeps them finite near the data.
    """

    noise_scale: float = 2.0
    t_eps: float = 0.05

    def __post_init__(self) -> None:
        """Refuse impossible settings.

        Raises:
            UserError: for a noise scale that is not positive or a `t_eps` outside (0, 1).
        """
        if self.noise_scale <= 0:
            raise UserError(f"path.noise_scale is {self.noise_scale}; it must be positive")
        if not 0 < self.t_eps < 1:
            raise UserError(f"path.t_eps is {self.t_eps}; it must be between 0 and 1")

    def interpolate(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Noised latents `z`, (B, S, C), for `x` and unit noise (B, S, C) and `t` (B,) or (B, S)."""
        t = expand_like(t, x)
        return t * x + (1 - t) * self.noise_scale * noise

    def velocity(self, x: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Velocity at `z` that ends in `x`, (B, S, C), for `t` (B,)."""
        return (x - z) / (1 - expand_like(t, x)).clamp(min=self.t_eps)
