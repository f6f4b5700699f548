"""Numbered texts from the network of a running Trainer; the ranks share the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from operator import itemgetter

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from elf_lightning.batch import LatentPromptBatch
from elf_lightning.data import Detokenizer, ELFDataModule
from elf_lightning.data.examples import CollatePrompts, EmptyRows
from elf_lightning.errors import UserError
from elf_lightning.generation.samples import Sample, samples_of
from elf_lightning.network import ELFNetwork
from elf_lightning.ranks import gathered
from elf_lightning.sampling import Sampler, SamplingSettings
from elf_lightning.sampling.repetition import direction_between, trajectory_means
from elf_lightning.sampling.settings import MEASURING_SEED


@dataclass(frozen=True)
class TextGenerator:
    """Generates texts by number: the same number and seed give the same text on any number of ranks.

    In text-to-text tasks a text's number is that of the validation pair whose condition it answers.

    Attributes:
        sampler: settings -> a sampler of the network.
        settings: how to sample where nothing else is asked for.
        data: where conditions come from.
        detokenizer: network ids -> text.
        device: where the network is.
        precision: a context in which the network computes as the Trainer was told.
        rank: this process's number.
        world_size: number of processes.
        trajectories: texts from which to measure the direction of repetition where the control is to be used,
            of weights that do not change; 0 to refuse the control.
    """

    sampler: Callable[[SamplingSettings], Sampler]
    settings: SamplingSettings
    data: ELFDataModule
    detokenizer: Detokenizer
    device: torch.device
    precision: Callable[[], AbstractContextManager[None]]
    rank: int = 0
    world_size: int = 1
    trajectories: int = 0
    _directions: dict[str, Tensor] = field(default_factory=dict)

    @property
    def network(self) -> ELFNetwork:
        """The network that generates."""
        return self.sampler(SamplingSettings()).network

    def indices(self, num: int) -> range:
        """Numbers of the texts to generate when so many are asked for: no more than there are conditions."""
        if self.data.max_condition_length is None:
            return range(num)
        return range(min(num, len(self.data.preparation.rows("validation"))))

    def generate(
        self,
        indices: Sequence[int],
        seed: int,
        settings: SamplingSettings | None = None,
        batch_size: int = 32,
    ) -> Iterator[list[Sample]]:
        """The texts with these numbers, a batch of every rank at a time; all ranks get all texts.

        All ranks must ask for the same.

        Args:
            indices: the texts' numbers.
            seed: of all random draws.
            settings: how to sample; this generator's own by default.
            batch_size: texts sampled at once on each rank.
        """
        if not indices:
            return
        sampler = self.sampler_for(settings, together=True)
        together = batch_size * self.world_size
        for start in range(0, len(indices), together):
            share = indices[start : start + together][self.rank :: self.world_size]
            samples = list(self._sample(sampler, share, seed)) if share else []
            yield sorted(gathered(samples), key=lambda sample: sample.index)

    def trajectory(
        self, indices: Sequence[int], seed: int, settings: SamplingSettings, steps: Sequence[int]
    ) -> list[Sample]:
        """The texts with these numbers and the way to them after these steps, on this rank alone."""
        return list(self._sample(self.sampler_for(settings, together=False), indices, seed, steps))

    def check(self, settings: SamplingSettings | None = None) -> None:
        """See whether these settings, or this generator's own, can be sampled with here.

        Raises:
            UserError: if repetition is to be controlled and cannot be measured.
        """
        settings = settings or self.settings
        if settings.repetition_control and not self.trajectories:
            raise UserError(
                f"sampling.repetition_control is {settings.repetition_control}, but the direction of "
                "repetition changes while a model trains; give `settings` in which it is 0"
            )

    def sampler_for(self, settings: SamplingSettings | None, together: bool) -> Sampler:
        """A sampler with these settings; for the repetition control, its direction is measured first.

        The direction is that of texts sampled with the same settings, and measured once for each.

        Args:
            settings: how to sample; this generator's own by default.
            together: all ranks call this, and share the measurement.

        Raises:
            UserError: as `check`, or if the network cannot be steered.
        """
        self.check(settings)
        settings = settings or self.settings
        plain = self.sampler(replace(settings, repetition_control=0.0))
        if not (settings.repetition_control and plain.network.config.self_conditioning):
            return replace(plain, settings=settings)
        key = str(plain.settings)
        if key not in self._directions:
            self._directions[key] = self._direction(plain, together)
        return replace(plain, settings=settings, repetition_direction=self._directions[key])

    def _direction(self, plain: Sampler, together: bool, batch_size: int = 32) -> Tensor:
        """The direction of repetition (C,), the same on any number of ranks."""
        indices = self.indices(self.trajectories)
        rank_zero_info(f"measuring the direction of repetition from {len(indices)} texts")
        share = indices[self.rank :: self.world_size] if together else indices
        measured: list[tuple[int, Tensor, float]] = []
        for start in range(0, len(share), batch_size):
            numbers = share[start : start + batch_size]
            with self.precision():
                means, repetition = trajectory_means(plain, self._prompts(numbers), MEASURING_SEED)
            measured += zip(numbers, means.float().cpu(), repetition.tolist(), strict=True)
        if together:
            measured = gathered(measured)
        measured.sort(key=itemgetter(0))
        all_means = torch.stack([means for _, means, _ in measured])
        return direction_between(all_means, torch.tensor([repeated for _, _, repeated in measured]))

    def _sample(
        self, sampler: Sampler, indices: Sequence[int], seed: int, steps: Sequence[int] = ()
    ) -> Iterator[Sample]:
        with self.precision():
            result = sampler.sample(self._prompts(indices), seed, trajectory_steps=steps)
        return samples_of(result, self.detokenizer, sampler.pad_id, indices, seed)

    def _prompts(self, indices: Sequence[int]) -> LatentPromptBatch:
        unconditional = self.data.max_condition_length is None
        rows = EmptyRows(len(indices)) if unconditional else self.data.preparation.rows("validation")
        prompts = CollatePrompts(self.data.collate)(rows.read(indices)).to(self.device)
        embedded = self.data.on_after_batch_transfer(prompts, 0)
        assert isinstance(embedded, LatentPromptBatch)
        return embedded
