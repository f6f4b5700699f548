"""The direction of repetition (Zhang et al. 2026, arXiv 2607.00588).

Along one direction of the latents, the self-conditioning inputs of repetitive trajectories lie further out
than those of others. Pushing the input back along it makes the text repeat less (`RepetitionSteering`). The
direction is measured once for a model.
"""

from dataclasses import replace

import torch
from torch import Tensor

from elf_lightning.batch import LatentPromptBatch
from elf_lightning.errors import UserError
from elf_lightning.sampling.sampler import OnStep, Sampler, Step
from elf_lightning.sampling.settings import DEFAULT_TRAJECTORIES

MIN_TRAJECTORIES = 6


def repeated_fraction(tokens: Tensor, pad_id: int, n: int = 4) -> Tensor:
    """Fraction of each sequence's n-grams that occurred in it before, (B,), for `tokens` (B, S)."""
    fractions = []
    for sequence in tokens.cpu():
        real = sequence[sequence != pad_id]
        grams = real.unfold(0, n, 1) if len(real) >= n else real.new_empty(0, n)
        fractions.append(1 - len(grams.unique(dim=0)) / len(grams) if len(grams) else 0.0)
    return torch.tensor(fractions)


def check_trajectories(count: int) -> None:
    """Refuse too few trajectories to measure a direction."""
    if count < MIN_TRAJECTORIES:
        raise UserError(
            f"a direction of repetition from {count} trajectories is noise; "
            f"use at least {MIN_TRAJECTORIES}, better {DEFAULT_TRAJECTORIES}"
        )


def direction_between(means: Tensor, repetition: Tensor) -> Tensor:
    """Unit vector (C,) from the mean of the least repetitive third to that of the most repetitive third.

    Of N trajectories: `means` (N, C) are vectors, `repetition` (N,) is how much the text repeats itself.
    Too few trajectories, or thirds that repeat themselves equally, are a `UserError`.
    """
    check_trajectories(len(means))
    order, third = repetition.argsort(stable=True), len(means) // 3
    if repetition[order[:third]].mean() >= repetition[order[-third:]].mean():
        raise UserError("the sampled texts do not differ in repetition, so no direction steers away from it")
    direction: Tensor = means[order[-third:]].mean(dim=0) - means[order[:third]].mean(dim=0)
    return torch.nn.functional.normalize(direction, dim=0)


def trajectory_means(
    sampler: Sampler, prompt: LatentPromptBatch, seed: int, on_step: OnStep | None = None
) -> tuple[Tensor, Tensor]:
    """What `direction_between` needs of a batch of unsteered trajectories; arguments as in `Sampler.sample`.

    That is each one's self-conditioning input averaged over positions and steps, (B, C), and the fraction of
    repeated 4-grams in its text, (B,).
    """
    settings = replace(sampler.settings, repetition_control=0.0, early_exit_margin=0.0)
    fed_back, total = prompt.latents, torch.zeros_like(prompt.latents)

    def add(step: Step) -> None:
        nonlocal fed_back, total
        total, fed_back = total + fed_back, step.estimate
        if on_step is not None:
            on_step(step)

    tokens = replace(sampler, settings=settings).sample(prompt, seed, on_step=add).tokens
    free = (~prompt.condition_mask)[..., None]
    means = (total / settings.num_steps * free).sum(dim=1) / free.sum(dim=1)
    return means, repeated_fraction(tokens, sampler.pad_id).to(means.device)
