"""Noise to latents to tokens."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from elf_lightning.batch import LatentPromptBatch
from elf_lightning.errors import UserError
from elf_lightning.flow import LogitNormal, RectifiedPath, seeded_generator
from elf_lightning.network import ELFNetwork
from elf_lightning.network.compiling import require_compiler
from elf_lightning.sampling.decode import decode_tokens, end_at_eos, shift_left
from elf_lightning.sampling.field import Denoiser, KnownLatents, LatentField, NetworkDenoiser
from elf_lightning.sampling.grid import time_grid
from elf_lightning.sampling.guidance import ClassifierFreeGuidance, RepetitionSteering, TwoPassGuidance
from elf_lightning.sampling.noise import RowNoise
from elf_lightning.sampling.settings import SamplingSettings
from elf_lightning.sampling.solvers import integrate, make_solver, visited_times


@dataclass(frozen=True)
class Infill:
    """Tokens that a text must have, anywhere in the row.

    Attributes:
        mask: (B, S) boolean, True at fixed positions.
        input_ids: (B, S) int64, the fixed tokens; any values elsewhere.
        latents: (B, S, C) their normalised latents; any values elsewhere.
    """

    mask: Tensor
    input_ids: Tensor
    latents: Tensor


@dataclass(frozen=True)
class Step:
    """Where the sampler is after a step.

    Attributes:
        number: of the step, from 0.
        time: the time reached.
        latents: (B, S, C) noised latents `z`.
        estimate: (B, S, C) what the network last took the clean latents for, `x_hat`.
    """

    number: int
    time: float
    latents: Tensor
    estimate: Tensor


@dataclass(frozen=True)
class Trajectory:
    """The way to the text, at K steps.

    Attributes:
        times: the K times, rising to 1.
        latents: (K, B, S, C) noised latents `z`.
        estimates: (K, B, S, C) what the network took the clean latents for, `x_hat`.
        tokens: (K, B, S) int64, `x_hat` decoded, in the form of `SampleResult.tokens`; at t=1 those tokens.
    """

    times: tuple[float, ...]
    latents: Tensor
    estimates: Tensor
    tokens: Tensor


@dataclass(frozen=True)
class SampleResult:
    """Sampled rows.

    Attributes:
        tokens: (B, S) int64, without the condition; padding from the first EOS on.
        latents: (B, S, C) float32, the latents at t=1, condition included.
        trajectory: the way there, if it was asked for.
    """

    tokens: Tensor
    latents: Tensor
    trajectory: Trajectory | None = None


@dataclass(frozen=True)
class Sampler:
    """Draws texts from a network; the same seed and row number give the same text in any batch.

    Attributes:
        network: the denoiser and decoder.
        path: the path it was trained on.
        settings: steps, solver, guidance and the like.
        times: the training distribution of times, for the grid `logit_normal`.
        eos_id: the token that ends a text.
        pad_id: the token that fills rows.
        repetition_direction: (C,) from `measure_direction`, needed for `settings.repetition_control`.
        compile: run the solver's steps through `torch.compile`, which pays for itself over many batches.

    Raises:
        UserError: if repetition is to be controlled without a direction or without self-conditioning, or
            nothing is there that compiles.
    """

    network: ELFNetwork
    path: RectifiedPath
    settings: SamplingSettings
    times: LogitNormal
    eos_id: int
    pad_id: int
    repetition_direction: Tensor | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        if self.compile:
            require_compiler("compile=True", self.network.rotary.device)
        if not self.settings.repetition_control:
            return
        if not self.network.config.self_conditioning:
            raise UserError(
                f"sampling.repetition_control is {self.settings.repetition_control}, but the network has no "
                "self-conditioning to steer; set it to 0"
            )
        if self.repetition_direction is None:
            raise UserError(
                f"sampling.repetition_control is {self.settings.repetition_control}, but the model's "
                "direction of repetition is not known; measure it first with ELF.measure_repetition() or "
                "`elf convert --measure-repetition`, or set it to 0"
            )

    def sample(
        self,
        prompt: LatentPromptBatch,
        seed: int,
        infill: Infill | None = None,
        trajectory_steps: Collection[int] = (),
        on_step: Callable[[Step], None] | None = None,
    ) -> SampleResult:
        """Texts for the rows of `prompt`.

        Args:
            prompt: the rows' numbers and their clean condition, empty for unconditional text.
            seed: of the whole request; rows of other batches of the same request take the same.
            infill: tokens fixed anywhere in the rows.
            trajectory_steps: numbers of the steps, from 0, after which to keep latents and decoded text.
            on_step: called after every step, for progress bars and measurements.

        Raises:
            UserError: if a condition fills its whole row.
        """
        _check_room(prompt)
        kept: list[Step] = []
        shown: list[Tensor] = []

        def observe(step: Step) -> None:
            if step.number in trajectory_steps:
                kept.append(step)
                clean = step.latents if step.time == 1 else step.estimate
                shown.append(self._tokens(clean, prompt, seed, infill))
            if on_step is not None:
                on_step(step)

        with torch.inference_mode(), _evaluating(self.network):
            z = self._integrate(prompt, seed, infill, observe)
            tokens = self._tokens(z, prompt, seed, infill)
        # Copied out here, they are ordinary tensors again, which may be changed and differentiated through.
        return SampleResult(tokens.clone(), z.clone(), _trajectory(kept, shown) if kept else None)

    def _integrate(
        self, prompt: LatentPromptBatch, seed: int, infill: Infill | None, observe: Callable[[Step], None]
    ) -> Tensor:
        """Latents at t=1, (B, S, C)."""
        size, device = prompt.latents.shape[1:], prompt.latents.device
        noise = RowNoise(seed, prompt.index, size, self.path.noise_scale, device)
        times = time_grid(self.settings, self.times, seed)
        field = self._field(prompt, infill, times)
        return integrate(
            field,
            field.clamp(noise()),
            times,
            make_solver(self.settings),
            noise,
            lambda number, t, z: observe(Step(number, t, z, field.x_hat)),
        )

    def _field(self, prompt: LatentPromptBatch, infill: Infill | None, times: Sequence[float]) -> LatentField:
        settings, shape = self.settings, self.network.config
        asked = visited_times(times, make_solver(settings))
        denoiser: Denoiser = NetworkDenoiser(self.network, settings.guidance, asked, self.compile)
        if not shape.num_guidance_tokens and shape.self_conditioning and settings.guidance != 1:
            denoiser = TwoPassGuidance(denoiser, prompt.condition_mask, settings.guidance)
        if settings.cfg_scale != 1 and bool(prompt.condition_mask.any()):
            denoiser = ClassifierFreeGuidance(denoiser, prompt.condition_mask, settings.cfg_scale)
        if settings.repetition_control and self.repetition_direction is not None:
            direction = self.repetition_direction.to(prompt.latents)
            denoiser = RepetitionSteering(
                denoiser, direction, settings.repetition_control, prompt.condition_mask
            )
        condition = KnownLatents(prompt.latents, prompt.condition_mask)
        known = None if infill is None else KnownLatents(infill.latents, infill.mask)
        return LatentField(denoiser, self.path, condition, known)

    def _tokens(self, z: Tensor, prompt: LatentPromptBatch, seed: int, infill: Infill | None) -> Tensor:
        generators = [seeded_generator("decode", seed, row, device=z.device) for row in prompt.index.tolist()]
        open_until = None
        if infill is not None:
            places = torch.arange(1, z.shape[1] + 1, device=z.device)
            open_until = (places * infill.mask).amax(dim=1)
        closing_ids = [self.eos_id, self.pad_id]
        tokens = decode_tokens(self.network, z, self.settings, generators, closing_ids, open_until)
        if infill is not None:
            tokens = torch.where(infill.mask, infill.input_ids, tokens)
        tokens = shift_left(tokens, prompt.condition_mask.sum(dim=1), self.pad_id)
        return end_at_eos(tokens, self.eos_id, self.pad_id)


def _check_room(prompt: LatentPromptBatch) -> None:
    length = prompt.condition_mask.shape[1]
    full = prompt.index[prompt.condition_mask.all(dim=1)].tolist()
    if full:
        raise UserError(
            f"prompt {full[0]} fills its row of {length} tokens and leaves none to generate; shorten it"
        )


def _trajectory(steps: list[Step], tokens: list[Tensor]) -> Trajectory:
    return Trajectory(
        times=tuple(step.time for step in steps),
        latents=torch.stack([step.latents for step in steps]),
        estimates=torch.stack([step.estimate for step in steps]),
        tokens=torch.stack(tokens),
    )


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Without dropout, whatever the network's mode was before and is after."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)
