"""The straight path from noise to data, distributions of times and guidance scales, and seeded generators."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from elf_lightning.errors import UserError


def expand_like(values: Tensor, like: Tensor) -> Tensor:
    """`values` (B,) or (B, S) with ones appended to its shape until it broadcasts against `like`."""
    return values.reshape(values.shape + (1,) * (like.ndim - values.ndim))


def mix(x: Tensor, noise: Tensor, weight: Tensor) -> Tensor:
    """`weight * x + (1 - weight) * noise`, of the type of `noise`, for a `weight` (B,) or (B, S) of `x`."""
    return torch.lerp(noise, x.type_as(noise), expand_like(weight, x).type_as(noise))


@dataclass(frozen=True)
class RectifiedPath:
    """Straight line from noise (t=0) to data (t=1), arXiv 2605.10938 section 3.

    Attributes:
        noise_scale: standard deviation of the noise at t=0, above 0.
        t_eps: lower bound of `1 - t` in velocities, in (0, 1), which keeps them finite near the data.
    """

    noise_scale: float = 2.0
    t_eps: float = 0.05

    def __post_init__(self) -> None:
        if self.noise_scale <= 0:
            raise UserError(f"path.noise_scale is {self.noise_scale}; it must be positive")
        if not 0 < self.t_eps < 1:
            raise UserError(f"path.t_eps is {self.t_eps}; it must be between 0 and 1")

    def interpolate(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Noised latents `z`, (B, S, C), for `x` and unit noise (B, S, C) and `t` (B,) or (B, S)."""
        return mix(x, self.noise_scale * noise, t)

    def velocity(self, x: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Velocity at `z` that ends in `x`, (B, S, C), for `t` (B,)."""
        return (x - z) / expand_like(self.remaining(t), x)

    def remaining(self, t: Tensor) -> Tensor:
        """`max(1 - t, t_eps)`: errors of estimates are errors of their velocities, times this."""
        return (1 - t).clamp(min=self.t_eps)


@dataclass(frozen=True)
class LogitNormal:
    """`sigmoid(N(mean, std))`, a distribution on (0, 1) (arXiv 2605.10938, section 3).

    Attributes:
        mean: mean of the normal; negative values favour noise.
        std: standard deviation of the normal, above 0.
    """

    mean: float = -1.5
    std: float = 0.8

    def __post_init__(self) -> None:
        if self.std <= 0:
            raise UserError(f"the std of a logit-normal distribution is {self.std}; it must be positive")

    def sample(self, *size: int, generator: torch.Generator) -> Tensor:
        """Draws in (0, 1) of shape `size`, float32, on the generator's device."""
        normal = torch.randn(size, generator=generator, device=generator.device)
        return torch.sigmoid(self.mean + self.std * normal)

    def quantiles(self, count: int) -> Tensor:
        """The points (count - 1,) that divide the distribution into `count` equal parts, float32, rising."""
        probabilities = torch.arange(1, count, dtype=torch.float64) / count
        return torch.sigmoid(self.mean + self.std * torch.special.ndtri(probabilities)).float()


@dataclass(frozen=True)
class GuidanceScale:
    """Guidance scales `w`; `1 + w` is log-uniform between `1 + minimum` and `1 + maximum`.

    Attributes:
        minimum: smallest scale, above 0.
        maximum: largest scale, not below it.
    """

    minimum: float = 0.5
    maximum: float = 5.0

    def __post_init__(self) -> None:
        if not 0 < self.minimum <= self.maximum:
            raise UserError(
                f"guidance scales from {self.minimum} to {self.maximum} are not a valid range; "
                "choose 0 < minimum <= maximum"
            )

    def sample(self, *size: int, generator: torch.Generator) -> Tensor:
        """Scales of shape `size`, float32, on the generator's device."""
        u = torch.rand(size, generator=generator, device=generator.device)
        return (1 + self.minimum) * ((1 + self.maximum) / (1 + self.minimum)) ** u - 1


def seeded_generator(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A new generator on `device` that depends on `key` alone, for example (seed, epoch, batch, rank).

    Different keys give unrelated streams, as do different kinds of devices. No state has to be saved.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)
