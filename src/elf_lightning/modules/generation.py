"""Numbered texts from the network of a running Trainer; the ranks share the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

from elf_lightning.batch import LatentPromptBatch
from elf_lightning.data import Detokenizer, ELFDataModule
from elf_lightning.data.examples import CollatePrompts, EmptyRows
from elf_lightning.modules.samples import Sample, samples_of
from elf_lightning.sampling import Sampler, SamplingSettings

T = TypeVar("T")


@dataclass(frozen=True)
class TextGenerator:
    """Generates texts by number: the same number and seed give the same text on any number of ranks.

    In text-to-text tasks a text's number is that of the held-out pair whose condition it answers.

    Attributes:
        sampler: settings -> a sampler of the network; None asks for the module's own settings.
        data: where conditions come from.
        detokenizer: network ids -> text.
        device: where the network is.
        precision: a context in which the network computes as the Trainer was told.
        rank: this process's number.
        world_size: number of processes.
    """

    sampler: Callable[[SamplingSettings | None], Sampler]
    data: ELFDataModule
    detokenizer: Detokenizer
    device: torch.device
    precision: Callable[[], AbstractContextManager[None]]
    rank: int = 0
    world_size: int = 1

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
            settings: how to sample; the module's own by default.
            batch_size: texts sampled at once on each rank.
        """
        sampler = self.sampler(settings)
        together = batch_size * self.world_size
        for start in range(0, len(indices), together):
            share = indices[start : start + together][self.rank :: self.world_size]
            samples = list(self._sample(sampler, share, seed)) if share else []
            yield sorted(gathered(samples), key=lambda sample: sample.index)

    def trajectory(
        self, indices: Sequence[int], seed: int, settings: SamplingSettings, steps: Sequence[int]
    ) -> list[Sample]:
        """The texts with these numbers and the way to them after these steps, on this rank alone."""
        return list(self._sample(self.sampler(settings), indices, seed, steps))

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


def gathered(items: list[T]) -> list[T]:
    """The items of all ranks, in their order; every rank gets them all."""
    if not (dist.is_available() and dist.is_initialized()):
        return items
    shares: list[list[T]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(shares, items)
    return [item for share in shares for item in share]
