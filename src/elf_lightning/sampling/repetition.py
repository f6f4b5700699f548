"""Steering away from repetition (Zhang et al. 2026, arXiv 2607.00588).

A model that repeats itself can be seen doing so in what it feeds back to itself: along one direction of the
latents, repetitive trajectories lie further out than others. Pushing the self-conditioning input back along
that direction makes the text repeat less. The direction is measured once for a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from elf_lightning.batch import LatentPromptBatch
from elf_lightning.errors import UserError
from elf_lightning.sampling.sampler import Sampler, Step
from elf_lightning.sampling.settings import DEFAULT_TRAJECTORIES

FEWEST_TRAJECTORIES = 6


def repeated_share(tokens: Tensor, pad_id: int, n: int = 4) -> Tensor:
    """Share of each row's n-grams that occurred in it before, (B,) float32; 0 for rows shorter than n.

    Args:
        tokens: (B, S) int64; n-grams that touch padding do not count.
        pad_id: the token that fills rows.
        n: length of the n-grams.
    """
    shares = []
    for row in tokens.cpu():
        real = row[row != pad_id]
        grams = real.unfold(0, n, 1) if len(real) >= n else real.new_empty(0, n)
        shares.append(1 - len(grams.unique(dim=0)) / len(grams) if len(grams) else 0.0)
    return torch.tensor(shares)


def direction_between(means: Tensor, repetition: Tensor) -> Tensor:
    """Unit vector (C,) from the mean of the least repetitive third to that of the most repetitive third.

    Args:
        means: (N, C) one vector a trajectory.
        repetition: (N,) how much each trajectory's text repeats itself.

    Raises:
        UserError: for too few trajectories, or if the thirds repeat themselves equally.
    """
    if len(means) < FEWEST_TRAJECTORIES:
        raise UserError(
            f"a direction of repetition from {len(means)} trajectories is noise; "
            f"use at least {FEWEST_TRAJECTORIES}, better {DEFAULT_TRAJECTORIES}"
        )
    order, third = repetition.argsort(stable=True), len(means) // 3
    if repetition[order[:third]].mean() >= repetition[order[-third:]].mean():
        raise UserError("the sampled texts do not differ in repetition, so no direction steers away from it")
    direction: Tensor = means[order[-third:]].mean(dim=0) - means[order[:third]].mean(dim=0)
    return torch.nn.functional.normalize(direction, dim=0)


@dataclass
class _FedBack:
    """Adds up what the network is fed back, so that no trajectory has to be kept.

    Attributes:
        total: (B, S, C) sum of all that it was fed first and has estimated since.
        on_step: called after every step.
        last: (B, S, C) the last estimate, which no call is fed.
        steps: number of steps so far.
    """

    total: Tensor
    on_step: Callable[[Step], None] | None
    last: Tensor | float = 0.0
    steps: int = 0

    def __call__(self, step: Step) -> None:
        self.total = self.total + step.estimate
        self.last = step.estimate
        self.steps += 1
        if self.on_step is not None:
            self.on_step(step)

    def mean(self) -> Tensor:
        """(B, S, C) mean over the steps."""
        return (self.total - self.last) / self.steps


def trajectory_means(
    sampler: Sampler, prompt: LatentPromptBatch, seed: int, on_step: Callable[[Step], None] | None = None
) -> tuple[Tensor, Tensor]:
    """What `direction_between` needs of a batch of unsteered trajectories.

    Args:
        sampler: the model and its settings; it samples unsteered here.
        prompt: the rows.
        seed: of their noise.
        on_step: called after every step, for progress bars.

    Returns:
        (B, C) each trajectory's self-conditioning input averaged over positions and steps, and (B,) the share
        of repeated 4-grams in its text.
    """
    unsteered = replace(sampler, settings=replace(sampler.settings, repetition_control=0.0))
    fed_back = _FedBack(prompt.latents, on_step)
    tokens = unsteered.sample(prompt, seed, on_step=fed_back).tokens
    free = (~prompt.condition_mask)[..., None]
    means = (fed_back.mean() * free).sum(dim=1) / free.sum(dim=1)
    return means, repeated_share(tokens, sampler.pad_id).to(means.device)


def measure_direction(
    sampler: Sampler,
    prompts: Iterable[LatentPromptBatch],
    seed: int,
    on_step: Callable[[Step], None] | None = None,
) -> Tensor:
    """The direction of repetition (C,) of a model, on its device.

    Args:
        sampler: the model and its settings; it samples unsteered here.
        prompts: batches of rows, `DEFAULT_TRAJECTORIES` rows altogether if time allows.
        seed: of their noise.
        on_step: called after every step of every batch, for progress bars.

    Raises:
        UserError: for too few rows, or texts that do not differ in repetition.
    """
    measured = [trajectory_means(sampler, prompt, seed, on_step) for prompt in prompts]
    means, repetition = (torch.cat(column) for column in zip(*measured, strict=True))
    return direction_between(means, repetition)
