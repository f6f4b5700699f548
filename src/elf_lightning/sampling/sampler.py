"""Noise to latents to tokens."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from elf_lightning.batch import LatentPromptBatch
from elf_lightning.codec.word_pieces import KnownWords
from elf_lightning.compiling import require_compiler
from elf_lightning.errors import UserError
from elf_lightning.flow import KnownLatents, LogitNormal, RectifiedPath, seeded_generator
from elf_lightning.network import ELFNetwork
from elf_lightning.sampling import decode
from elf_lightning.sampling.field import (
    ClassifierFreeGuidance,
    Denoiser,
    LatentField,
    NetworkDenoiser,
    RepetitionSteering,
    TwoPassGuidance,
)
from elf_lightning.sampling.settings import SamplingSettings
from elf_lightning.sampling.solvers import integrate, time_grid

CERTAINTY_TIME = 1 / 3
"""Where the certainty of a text is measured; clean latents of any text are decoded with certainty."""


@dataclass(frozen=True)
class Infill:
    """Tokens that a text must have, anywhere in the sequence.

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
    """The state of the sampler after a step.

    Attributes:
        number: of the step, from 0.
        time: the time reached.
        latents: (B, S, C) noised latents `z`.
        estimate: (B, S, C) the network's last estimate of the clean latents, `x_hat`.
        tokens: (B, S) int64, as in `Trajectory`, if this is one of the `trajectory_steps`.
    """

    number: int
    time: float
    latents: Tensor
    estimate: Tensor
    tokens: Tensor | None = None


OnStep = Callable[[Step], None]


@dataclass(frozen=True)
class Trajectory:
    """How a text came about, at K steps.

    Attributes:
        times: the K times, rising to 1.
        latents: (K, B, S, C) noised latents `z`.
        estimates: (K, B, S, C) the network's estimates of the clean latents, `x_hat`.
        tokens: (K, B, S) int64, `x_hat` decoded, in the form of `SampleResult.tokens`; at t=1 those tokens.
    """

    times: tuple[float, ...]
    latents: Tensor
    estimates: Tensor
    tokens: Tensor


@dataclass(frozen=True)
class SampleResult:
    """Sampled sequences.

    Attributes:
        tokens: (B, S) int64, without the condition; padding from the first EOS on.
        latents: (B, S, C) float32, the latents at t=1, condition included.
        network_calls: (B,) int64, calls by the solver and by checks of the early exit for each sequence; two
            passes of guidance are one call, and decoding at the end is not counted.
        trajectory: how the sequences came about, if requested.
        certainty: (B,) mean log-probability of the generated tokens, decoded from latents noised to
            `CERTAINTY_TIME`, if `settings.best_of` is above 1.
    """

    tokens: Tensor
    latents: Tensor
    network_calls: Tensor
    trajectory: Trajectory | None = None
    certainty: Tensor | None = None


@dataclass(frozen=True)
class Sampler:
    """Draws texts from a network; the same seed and sequence number give the same text in any batch.

    Without what its settings need (a direction, self-conditioning, a compiler), it is a `UserError`.

    Attributes:
        network: the denoiser and decoder.
        path: the path it was trained on.
        settings: steps, solver, guidance and the like.
        times: the training distribution of times, for the grid `logit_normal`.
        eos_id: the token that ends a text; None if all texts are full.
        pad_id: the token that fills sequences.
        repetition_direction: (C,) from `ELF.measure_repetition`, needed for `settings.repetition_control`.
        compile: compile the network, which pays for itself over many batches.
        words: the words to which `settings.known_words` keeps.
    """

    network: ELFNetwork
    path: RectifiedPath
    settings: SamplingSettings
    times: LogitNormal
    eos_id: int | None
    pad_id: int
    repetition_direction: Tensor | None = None
    compile: bool = False
    words: KnownWords | None = None

    def __post_init__(self) -> None:
        if self.compile:
            require_compiler("compile=True", self.network.rotary.device)
            if not self.network.compiled:
                self.network.compile()
        strength = self.settings.repetition_control
        if strength and not self.network.config.self_conditioning:
            raise UserError(
                f"sampling.repetition_control is {strength}, but the network has no self-conditioning to "
                "steer; set it to 0"
            )
        if strength and self.repetition_direction is None:
            raise UserError(
                f"sampling.repetition_control is {strength}, but the model's direction of repetition is not "
                "known; measure it first with ELF.measure_repetition() or "
                "`elf convert --measure-repetition`, or set it to 0"
            )

    def sample(
        self,
        prompt: LatentPromptBatch,
        seed: int,
        infill: Infill | None = None,
        trajectory_steps: Collection[int] = (),
        on_step: OnStep | None = None,
        candidate: int = 0,
    ) -> SampleResult:
        """Texts for the sequences of `prompt`; a `UserError` if a condition fills its whole sequence.

        It draws one candidate for each; `TextGenerator` keeps the best of `settings.best_of`.

        Args:
            prompt: the sequences' numbers and their clean condition, empty for unconditional text.
            seed: of the whole request; other batches of the same request take the same.
            infill: tokens fixed anywhere in the sequences.
            trajectory_steps: numbers of the steps, from 0, after which to keep latents and decoded text.
            on_step: called after every step, for progress bars and measurements. If all sequences end early,
                the steps that remain are reported as well, with the same estimate.
            candidate: number of the candidate; all have the same times, and each has noise of its own.
        """
        if full := prompt.index[prompt.condition_mask.all(dim=1)].tolist():
            raise UserError(
                f"prompt {full[0]} fills its sequence of {prompt.condition_mask.shape[1]} tokens and leaves "
                "none to generate; shorten it"
            )
        batch = [int(prompt.index[0])] if self.settings.grid_per_batch else []
        times = time_grid(self.settings, self.times, seed, *batch)
        if candidate:
            seed = seeded_generator("candidate", seed, candidate).initial_seed()
        kept: list[Step] = []

        def observe(step: Step) -> None:
            if step.number in trajectory_steps:
                latents = step.latents if step.time == 1 else step.estimate
                tokens = self._without_condition(self._tokens(latents, prompt, seed, infill), prompt)
                kept.append(step := replace(step, tokens=tokens))
            if on_step is not None:
                on_step(step)

        training = self.network.training
        self.network.eval()
        try:
            with torch.inference_mode():
                z, calls = self._integrate(prompt, seed, times, infill, observe)
                tokens = self._tokens(z, prompt, seed, infill)
                several = self.settings.best_of > 1
                certain = self._certainty(z, tokens, prompt, seed, infill) if several else None
        finally:
            self.network.train(training)
        trajectory = None
        if kept:
            reached, *tensors = zip(*((s.time, s.latents, s.estimate, s.tokens) for s in kept), strict=True)
            trajectory = Trajectory(reached, *map(torch.stack, tensors))
        # Clones made outside are ordinary tensors, which may be changed and differentiated through.
        tokens = self._without_condition(tokens, prompt)
        certain = None if certain is None else certain.clone()
        return SampleResult(tokens.clone(), z.clone(), calls.clone(), trajectory, certain)

    def _integrate(
        self,
        prompt: LatentPromptBatch,
        seed: int,
        times: tuple[float, ...],
        infill: Infill | None,
        observe: OnStep,
    ) -> tuple[Tensor, Tensor]:
        """Latents at t=1, (B, S, C), and the network calls behind them, (B,)."""
        settings, size, device = self.settings, prompt.latents.shape[1:], prompt.latents.device
        noise = sequence_noise(seed, prompt.index, size, self.path.noise_scale, device)
        early_exit = running = None
        if settings.early_exit_margin:
            early_exit = decode.EarlyExit(self.network, settings, _generated(prompt, infill), self.eos_id)
            running = early_exit.running
        mask = prompt.condition_mask
        condition = KnownLatents(prompt.latents, mask, empty=not mask.any())
        known = None if infill is None else KnownLatents(infill.latents, infill.mask)
        field = LatentField(self._denoiser(condition, running), self.path, condition, known, running)

        def after_step(number: int, t: float, z: Tensor) -> bool:
            all_ended, reached = False, [(number, t)]
            if early_exit is not None and early_exit.due(number):
                field.count_call()
                if all_ended := early_exit.check(field.x_hat):  # nothing changes from here on
                    reached = [*enumerate(times[1:])][number:]
            latents = field.ended_at(field.x_hat, z)
            for number, t in reached:
                observe(Step(number, t, latents, field.x_hat))
            return all_ended

        z = integrate(field, field.clamp(noise()), times, settings.build_solver(), noise, after_step)
        return field.ended_at(field.x_hat, z), field.network_calls

    def _denoiser(self, condition: KnownLatents, running: Tensor | None) -> Denoiser:
        settings, config, mask = self.settings, self.network.config, condition.mask
        denoiser: Denoiser = NetworkDenoiser(self.network, settings.guidance, running)
        if not config.num_guidance_tokens and config.self_conditioning and settings.guidance != 1:
            denoiser = TwoPassGuidance(denoiser, mask, settings.guidance)
        if settings.cfg_scale != 1 and not condition.empty:
            denoiser = ClassifierFreeGuidance(denoiser, mask, settings.cfg_scale)
        if settings.repetition_control and self.repetition_direction is not None:
            direction = self.repetition_direction.to(condition.latents)
            denoiser = RepetitionSteering(denoiser, direction, settings.repetition_control, mask)
        return denoiser

    def _tokens(self, z: Tensor, prompt: LatentPromptBatch, seed: int, infill: Infill | None) -> Tensor:
        random = _generators("decode", seed, prompt.index, z.device)
        places = torch.arange(1, z.shape[1] + 1, device=z.device)
        open_until = None if infill is None else (places * infill.mask).amax(dim=1)
        closing = [self.pad_id] if self.eos_id is None else [self.eos_id, self.pad_id]
        tokens = decode.decode_tokens(self.network, z, self.settings, random, closing, open_until, self.words)
        return tokens if infill is None else torch.where(infill.mask, infill.input_ids, tokens)

    def _without_condition(self, tokens: Tensor, prompt: LatentPromptBatch) -> Tensor:
        tokens = decode.shift_left(tokens, prompt.condition_mask.sum(dim=1), self.pad_id)
        return tokens if self.eos_id is None else decode.end_at_eos(tokens, self.eos_id, self.pad_id)

    def _certainty(
        self, z: Tensor, tokens: Tensor, prompt: LatentPromptBatch, seed: int, infill: Infill | None
    ) -> Tensor:
        text = decode.until_eos(tokens, self.eos_id, ~prompt.condition_mask) & (tokens != self.pad_id)
        noise = sequence_noise(seed, prompt.index, z.shape[1:], 1.0, z.device, "certainty")
        noised = self.path.interpolate(z, noise(), z.new_full(z.shape[:1], CERTAINTY_TIME))
        noised = KnownLatents(prompt.latents, prompt.condition_mask).restore(noised)
        counted = text & _generated(prompt, infill)
        return decode.certainty(self.network, noised, self.settings.guidance, tokens, counted)


def _generated(prompt: LatentPromptBatch, infill: Infill | None) -> Tensor:
    """(B, S), True at the positions whose tokens are not given."""
    return ~(prompt.condition_mask if infill is None else prompt.condition_mask | infill.mask)


def sequence_noise(
    seed: int, index: Tensor, size: torch.Size, scale: float, device: torch.device, purpose: str = "noise"
) -> Callable[[], Tensor]:
    """A source of noise (B, S, C) of standard deviation `scale`, new at each call; `size` is (S, C).

    Each sequence, by its number in `index` (B,), has a stream of its own, whatever batch it is in.
    """
    generators = _generators(purpose, seed, index, device)

    def draw() -> Tensor:
        noise = torch.empty((len(generators), *size), device=device)
        for sequence, generator in zip(noise, generators, strict=True):
            sequence.normal_(std=scale, generator=generator)
        return noise

    return draw


def _generators(purpose: str, seed: int, index: Tensor, device: torch.device) -> list[torch.Generator]:
    return [seeded_generator(purpose, seed, number, device=device) for number in index.tolist()]
