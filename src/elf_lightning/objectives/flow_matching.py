"""The training objective of ELF (arXiv 2605.10938, section 3)."""

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from elf_lightning.batch import LatentBatch
from elf_lightning.errors import UserError
from elf_lightning.flow import (
    GuidanceScale,
    KnownLatents,
    LogitNormal,
    RectifiedPath,
    expand_like,
    mix,
    seeded_generator,
)
from elf_lightning.network import ELFNetwork
from elf_lightning.objectives.base import Draws, Losses, Objective, StepKey
from elf_lightning.objectives.token_loss import token_cross_entropy

Mixing = Literal["rows", "steps", "devices"]


@dataclass(frozen=True)
class ELFObjective(Objective):
    """Flow matching with guided self-conditioning on most sequences, decoding of tokens on the others.

    A probability outside [0, 1], a negative scale or an unknown mixing is a `UserError`.

    Attributes:
        path: how latents and noise are mixed.
        times: distribution of the denoise sequences' times.
        guidance: distribution of the guidance scales.
        decode_probability: probability that a sequence decodes, or a whole micro-batch (see `mixing`).
        self_cond_probability: probability that a denoise sequence is conditioned on an earlier estimate.
        decode_mix: distribution of the weight of the latents in a decode sequence's input, per token.
        decode_noise_scale: standard deviation of the noise that has the remaining weight; 5 for unconditional
            text, 1 for text-to-text.
        mixing: "rows" splits every micro-batch between the two modes; "steps" gives a whole micro-batch to
            one of them, the same on every rank; "devices" draws that mode on each rank, as the official JAX
            code does.
    """

    path: RectifiedPath = RectifiedPath()
    times: LogitNormal = LogitNormal(-1.5, 0.8)
    guidance: GuidanceScale = GuidanceScale()
    decode_probability: float = 0.2
    self_cond_probability: float = 0.5
    decode_mix: LogitNormal = LogitNormal(0.8, 0.8)
    decode_noise_scale: float = 5.0
    mixing: Mixing = "rows"

    def __post_init__(self) -> None:
        for name in ("decode_probability", "self_cond_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"objective.{name} is {getattr(self, name)}; it must be in [0, 1]")
        if (scale := self.decode_noise_scale) < 0:
            raise UserError(f"objective.decode_noise_scale is {scale}; it must not be negative")
        if self.mixing not in (choices := get_args(Mixing)):
            raise UserError(f"objective.mixing is {self.mixing!r}; choose one of {', '.join(choices)}")

    def draw(self, shape: torch.Size | tuple[int, int, int], key: StepKey, device: torch.device) -> Draws:
        """See `Objective.draw`."""
        rows, length, _ = shape
        generator = key.generator(device)
        num_decode, num_self_cond = self._mode_counts(rows, key)
        return Draws(
            t=self.times.sample(rows, generator=generator),
            noise=torch.randn(shape, generator=generator, device=device),
            guidance=self.guidance.sample(rows, generator=generator),
            decode_mix=self.decode_mix.sample(rows, length, generator=generator),
            decode_noise=torch.randn(shape, generator=generator, device=device),
            num_decode=num_decode,
            num_self_cond=num_self_cond,
        )

    def mean_counts(self, num_sequences: int) -> tuple[float, float]:  # noqa: D102
        decode = self.decode_probability * num_sequences
        return decode, self.self_cond_probability * (num_sequences - decode)

    def _mode_counts(self, rows: int, key: StepKey) -> tuple[int, int]:
        """Numbers of decode and of self-conditioning sequences, each within 1 of its mean, and unbiased."""
        # On the CPU, since Python slices by them.
        u, u_self_cond = torch.rand(2, generator=key.generator("cpu", "counts")).tolist()
        if self.mixing == "rows":
            num_decode = math.floor(self.decode_probability * rows + u)
        else:
            shared = torch.rand((), generator=seeded_generator("shared", key.seed, key.epoch, key.batch))
            coin = shared.item() if self.mixing == "steps" else u
            num_decode = rows if coin < self.decode_probability else 0
        return num_decode, math.floor(self.self_cond_probability * (rows - num_decode) + u_self_cond)

    def __call__(  # noqa: D102
        self, network: ELFNetwork, batch: LatentBatch, draws: Draws, unknown_id: int | None = None
    ) -> Losses:
        known = conditions(batch)
        first = draws.num_decode
        t, denoised = draws.t[first:], known[first:]
        z = denoised.restore(self.path.interpolate(denoised.latents, draws.noise[first:], t))
        self_cond, target = self._self_condition(network, z, denoised, draws)
        hidden = self._hidden(network, known.latents, z, t, self_cond, draws)
        decode, denoise = torch.split(hidden, [first, len(z)])
        errors = squared_errors(network.latent_head(denoise), target)
        errors = errors / self.path.remaining(t).square()[:, None]  # those of the velocities to both
        mask = (batch.loss_mask & ~batch.condition_mask).float()
        return masked_losses(network, decode, errors, batch.input_ids, mask, unknown_id)

    def _hidden(
        self, network: ELFNetwork, x: Tensor, z: Tensor, t: Tensor, self_cond: Tensor, draws: Draws
    ) -> Tensor:
        """Hidden states (B, S, H) of both modes; `x` are all latents, `z` the noised ones to denoise."""
        first = draws.num_decode
        noise = self.decode_noise_scale * draws.decode_noise[:first]
        z_decode = mix(x[:first], noise, draws.decode_mix[:first])
        return network(  # type: ignore[no-any-return]
            torch.cat([z_decode, z]),
            torch.cat([torch.ones_like(draws.t[:first]), t]),
            draws.guidance,
            (torch.arange(len(x), device=x.device) < first).float(),
            torch.cat([torch.zeros_like(z_decode), self_cond]),
        )

    @torch.no_grad()
    def _self_condition(
        self, network: ELFNetwork, z: Tensor, known: KnownLatents, draws: Draws
    ) -> tuple[Tensor, Tensor]:
        """Self-conditioning inputs of the denoise sequences, and their targets, (P, S, C) each.

        A target is where the guided velocity leads. `known` has their clean latents.
        """
        first, count = draws.num_decode, draws.num_self_cond
        clean, x = known.alone, known.latents
        if count == 0:
            return clean, x
        rows = slice(first, first + count)
        t, w = draws.t[rows], draws.guidance[rows]
        prefix = network.prefix(t, w, torch.zeros_like(t))
        x_u = network.estimate(prefix, z[:count], clean[:count])
        fed_back = known[:count].restore(x_u)
        x_c = network.estimate(prefix, z[:count], fed_back)
        guided = torch.addcmul(x[:count], expand_like(1 - 1 / w, x), x_c - x_u)
        return torch.cat([fed_back, clean[count:]]), torch.cat([guided, x[count:]])

    @torch.no_grad()
    def evaluate(
        self, network: ELFNetwork, batch: LatentBatch, draws: Draws, unknown_id: int | None = None
    ) -> Losses:
        """See `Objective.evaluate`; half of the sequences self-condition.

        `total` is the mean of the two losses weighted by `decode_probability`.
        """
        rows = len(batch)
        denoise = self(network, batch, draws.with_counts(0, rows // 2), unknown_id)
        decode = self(network, batch, draws.with_counts(rows, 0), unknown_id)
        p = self.decode_probability
        return replace(
            decode,
            total=(1 - p) * denoise.denoise + p * decode.decode,
            denoise_sum=denoise.denoise_sum,
            denoise_count=denoise.denoise_count,
        )


def conditions(batch: LatentBatch) -> KnownLatents:
    """The clean latents of a batch, zeros at dropped conditions; `mask` marks all conditions."""
    if batch.unconditional or batch.full:
        return KnownLatents(batch.latents, batch.condition_mask, empty=True)
    dropped = batch.condition_mask & batch.label_drop[:, None]
    return KnownLatents(batch.latents.masked_fill(dropped[..., None], 0), batch.condition_mask)


def squared_errors(x_hat: Tensor, target: Tensor) -> Tensor:
    """Mean squared errors of latents (B, S, C), (B, S)."""
    return F.mse_loss(x_hat, target, reduction="none").mean(-1)


def masked_losses(
    network: ELFNetwork, hidden: Tensor, errors: Tensor, ids: Tensor, mask: Tensor, unknown_id: int | None
) -> Losses:
    """Losses of the n decode sequences' hidden states (n, S, H), and of the others' `errors` (P, S).

    Each head runs on its own sequences; an empty tensor still reaches every parameter, as DDP needs.
    """
    n = len(hidden)
    decode_sum, decode_correct = token_cross_entropy(network, hidden, ids[:n], mask[:n], unknown_id)
    denoise_sum = (errors * mask[n:]).sum()
    return Losses(
        total=(denoise_sum + decode_sum) / mask.sum().clamp(min=1),
        denoise_sum=denoise_sum,
        denoise_count=mask[n:].sum(),
        decode_sum=decode_sum,
        decode_count=mask[:n].sum(),
        decode_correct=decode_correct,
    )
