"""The one generator behind `ELF`, callbacks, `predict` and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from elf_lightning.batch import LatentPromptBatch, PromptBatch
from elf_lightning.checkpoints.config import ELFConfig
from elf_lightning.codec import TextCodec
from elf_lightning.errors import UserError
from elf_lightning.generation.requests import Request
from elf_lightning.generation.samples import Sample, samples_of
from elf_lightning.network import ELFNetwork
from elf_lightning.ranks import gathered, rank_and_world_size
from elf_lightning.sampling import Infill, Sampler, SamplingSettings, Step
from elf_lightning.sampling.repetition import direction_between, trajectory_means
from elf_lightning.sampling.settings import MEASURING_SEED


@dataclass(frozen=True)
class TextGenerator:
    """Turns requests into texts: the same seed and number give the same text in any batch, on any rank.

    Attributes:
        network: the denoiser and decoder, trained or in training.
        config: what it was built and trained with.
        precision: makes a context in which the network computes.
        compile: run the solver's steps through `torch.compile`.
        repetition_direction: (C,) for the repetition control, if it was measured before.
        distributed: divide the work among the ranks of the default process group, which all make the same
            calls and get all the texts.
    """

    network: ELFNetwork
    config: ELFConfig
    precision: Callable[[], AbstractContextManager[Any]]
    compile: bool = False
    repetition_direction: Tensor | None = None
    distributed: bool = False
    _measured: dict[str, Tensor] = field(default_factory=dict)

    @property
    def codec(self) -> TextCodec:
        """The model's codec.

        Raises:
            UserError: if its checkpoint does not name tokenizer and encoder, or names another tokenizer.
        """
        codec = self.config.codec
        if codec is None:
            raise UserError(
                "the checkpoint does not say which tokenizer and encoder it was trained with, so its tokens "
                "cannot be turned into text; use the run's own checkpoint, or a Hub folder made from it"
            )
        if len(codec.vocabulary) != self.config.vocab_size:
            raise UserError(
                f"tokenizer '{codec.tokenizer}' has {len(codec.vocabulary)} tokens and does not fit the "
                f"model, which was trained on {self.config.vocab_size}; it needs its own tokenizer"
            )
        return codec

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.network.rotary.device

    def sampler(self, settings: SamplingSettings | None = None) -> Sampler:
        """A sampler with these settings, the model's own by default.

        Raises:
            UserError: if repetition is to be controlled and was never measured.
        """
        settings = settings or self.config.default_sampling
        return Sampler(
            network=self.network,
            path=self.config.path,
            settings=settings,
            times=self.config.times,
            eos_id=self.codec.eos_id,
            pad_id=self.codec.pad_id,
            repetition_direction=self._direction(settings),
            compile=self.compile,
        )

    def generate(
        self,
        requests: Sequence[Request],
        seed: int,
        settings: SamplingSettings | None = None,
        batch_size: int = 32,
        trajectory_steps: Collection[int] = (),
        on_step: Callable[[Step], None] | None = None,
    ) -> Iterator[list[Sample]]:
        """The texts of all requests in order, a batch (of every rank) at a time.

        Args:
            requests: what to generate.
            seed: of all random draws.
            settings: how to sample; the model's own by default.
            batch_size: texts sampled at once on each rank.
            trajectory_steps: numbers of the steps, from 0, after which to keep the text so far.
            on_step: called after every step of every batch on this rank, for progress bars.

        Raises:
            UserError: for settings that cannot be used.
        """
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}; it must be at least 1")
        for own in self._batches(requests, batch_size):
            samples = []
            if own:
                prompt, infill = self.batch(own)
                samples = self.sample_batch(prompt, seed, infill, settings, trajectory_steps, on_step)
            if self.distributed:
                samples = sorted(gathered(samples), key=lambda sample: sample.index)
            yield samples

    def sample_batch(
        self,
        prompt: LatentPromptBatch,
        seed: int,
        infill: Infill | None = None,
        settings: SamplingSettings | None = None,
        trajectory_steps: Collection[int] = (),
        on_step: Callable[[Step], None] | None = None,
    ) -> list[Sample]:
        """The texts of one batch, on this rank alone; arguments as in `generate` and `batch`."""
        sampler = self.sampler(settings)
        with self.precision():
            result = sampler.sample(prompt, seed, infill, trajectory_steps=trajectory_steps, on_step=on_step)
        return samples_of(result, self.codec, prompt.index.tolist(), seed)

    def batch(self, requests: Sequence[Request]) -> tuple[LatentPromptBatch, Infill | None]:
        """Requests as one batch with the latents of what they give, on the network's device."""
        ids = torch.zeros(len(requests), self.config.max_length, dtype=torch.int64)
        condition_mask, fixed_mask = torch.zeros_like(ids).bool(), torch.zeros_like(ids).bool()
        for place, request in enumerate(requests):
            given = {**dict(enumerate(request.condition)), **request.fixed}
            ids[place, list(given)] = torch.tensor(list(given.values()), dtype=torch.int64)
            condition_mask[place, : len(request.condition)] = True
            fixed_mask[place, list(request.fixed)] = True
        index = torch.tensor([request.index for request in requests])
        prompt = self._embedded(PromptBatch(index, ids, condition_mask))
        if not fixed_mask.any():
            return prompt, None
        fixed = self._embedded(PromptBatch(index, ids, fixed_mask))
        network_ids = self.codec.vocabulary.to_network(fixed.input_ids)
        return prompt, Infill(fixed.condition_mask, network_ids, fixed.latents)

    # Repetition

    def check(self, settings: SamplingSettings | None = None) -> None:
        """See whether these settings can be sampled with while the weights still change.

        Raises:
            UserError: if repetition is to be controlled, whose direction changes with the weights.
        """
        settings = settings or self.config.default_sampling
        if settings.repetition_control:
            raise UserError(
                f"sampling.repetition_control is {settings.repetition_control}, but the direction of "
                "repetition changes while a model trains; give `settings` in which it is 0"
            )

    def needs_measuring(self, settings: SamplingSettings | None = None) -> bool:
        """Whether these settings control repetition, and its direction is not known yet."""
        settings = settings or self.config.default_sampling
        return bool(
            settings.repetition_control
            and self.network.config.self_conditioning
            and self._direction(settings) is None
        )

    def measure_repetition(
        self,
        requests: Sequence[Request],
        settings: SamplingSettings | None = None,
        seed: int = MEASURING_SEED,
        batch_size: int = 32,
        on_step: Callable[[Step], None] | None = None,
    ) -> Tensor:
        """The direction of repetition (C,) of texts sampled with these settings; kept for `sampler`.

        Args:
            requests: the texts to measure it from.
            settings: how to sample, apart from the repetition control.
            seed: of the texts.
            batch_size: texts sampled at once on each rank.
            on_step: called after every step of every batch on this rank, for progress bars.

        Raises:
            UserError: for too few texts, or texts that do not differ in repetition.
        """
        settings = replace(settings or self.config.default_sampling, repetition_control=0.0)
        sampler = self.sampler(settings)
        measured: list[tuple[int, Tensor, float]] = []
        for own in self._batches(requests, batch_size):
            if own:
                with self.precision():
                    means, repetition = trajectory_means(sampler, self.batch(own)[0], seed, on_step)
                numbers = [request.index for request in own]
                measured += zip(numbers, means.float().cpu(), repetition.tolist(), strict=True)
        measured = sorted(gathered(measured) if self.distributed else measured, key=itemgetter(0))
        all_means = torch.stack([means for _, means, _ in measured])
        direction = direction_between(all_means, torch.tensor([repeated for _, _, repeated in measured]))
        self._measured[str(settings)] = direction
        return direction

    def _direction(self, settings: SamplingSettings) -> Tensor | None:
        if self.repetition_direction is not None:
            return self.repetition_direction
        return self._measured.get(str(replace(settings, repetition_control=0.0)))

    # Batches

    def _batches(self, requests: Sequence[Request], batch_size: int) -> Iterator[Sequence[Request]]:
        """This rank's requests, batch by batch; the same number of batches on all ranks."""
        rank, world_size = rank_and_world_size() if self.distributed else (0, 1)
        together = batch_size * world_size
        for start in range(0, len(requests), together):
            yield requests[start : start + together][rank::world_size]

    def _embedded(self, prompt: PromptBatch) -> LatentPromptBatch:
        prompt = prompt.to(self.device)
        if not prompt.condition_mask.any():  # no encoder is needed
            latents = torch.zeros(*prompt.input_ids.shape, self.config.latent_size, device=self.device)
            return LatentPromptBatch(**vars(prompt), latents=latents)
        embedder = self.codec.embedder
        if embedder.encoder.latent_size != self.config.latent_size:
            raise UserError(
                f"encoder '{embedder.encoder.name_or_path}' gives latents of size "
                f"{embedder.encoder.latent_size}, but the model was trained on size "
                f"{self.config.latent_size}; it needs the encoder it was trained with"
            )
        with self.precision():
            embedded = embedder.prompts(prompt)
        return replace(embedded, latents=embedded.latents.float())
