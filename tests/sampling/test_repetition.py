"""The repetition control."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from elf_lightning.errors import UserError
from elf_lightning.network import ELFNetwork
from elf_lightning.sampling import Sampler
from elf_lightning.sampling.field import RepetitionSteering
from elf_lightning.sampling.repetition import direction_between, repeated_fraction, trajectory_means


def test_repeated_fraction_counts_what_occurred_before() -> None:
    tokens = torch.tensor(
        [
            [1, 2, 3, 4, 5, 6, 7, 8],  # five 4-grams, all new
            [5, 5, 5, 5, 5, 5, 5, 5],  # five, four of them seen before
            [1, 2, 1, 2, 1, 2, 0, 0],  # three, one seen before
            [1, 2, 3, 0, 0, 0, 0, 0],  # too short for one
        ]
    )
    assert repeated_fraction(tokens, pad_id=0).tolist() == pytest.approx([0, 0.8, 1 / 3, 0])


def test_direction_is_found_in_noise() -> None:
    true = torch.nn.functional.normalize(torch.randn(16), dim=0)
    repetition = torch.rand(300)
    means = 0.3 * torch.randn(300, 16) + repetition[:, None] * true
    found = direction_between(means, repetition)
    assert found.norm().item() == pytest.approx(1, abs=1e-5)
    assert found @ true > 0.9


def test_means_are_over_what_was_fed_back(make_sampler: Any, make_prompt: Any) -> None:
    """The first call is fed the condition, and the last estimate is never fed."""
    sampler, prompt = make_sampler(solver="ode", steps=3), make_prompt(range(2), [0, 4])
    estimates: list[Tensor] = []
    means, _ = trajectory_means(sampler, prompt, 0, lambda step: estimates.append(step.estimate.clone()))
    fed = torch.stack([prompt.latents, *estimates[:2]]).mean(dim=0)
    torch.testing.assert_close(means[0], fed[0].mean(dim=0))
    torch.testing.assert_close(means[1], fed[1, 4:].mean(dim=0))


def test_too_few_or_equal_texts_give_no_direction() -> None:
    with pytest.raises(UserError, match="5 trajectories is noise"):
        direction_between(torch.randn(5, 4), torch.rand(5))
    with pytest.raises(UserError, match="do not differ in repetition"):
        direction_between(torch.randn(9, 4), torch.zeros(9))


def test_steering_moves_the_input_but_not_the_condition() -> None:
    seen: list[Tensor] = []

    def denoiser(z: Tensor, t: float, self_cond: Tensor) -> Tensor:
        seen.append(self_cond)
        return z

    mask = torch.tensor([[True, False, False]])
    direction, self_cond = torch.tensor([0.6, 0.8]), torch.randn(1, 3, 2)
    RepetitionSteering(denoiser, direction, 2.0, mask)(self_cond, 0.0, self_cond)
    torch.testing.assert_close(seen[0][:, 0], self_cond[:, 0])
    torch.testing.assert_close(seen[0][:, 1:], self_cond[:, 1:] - 2 * direction)


def measured(sampler: Sampler, make_prompt: Any) -> Tensor:
    batches = [trajectory_means(sampler, make_prompt(index), seed=0) for index in (range(20), range(20, 40))]
    means, repetition = (torch.cat(column) for column in zip(*batches, strict=True))
    return direction_between(means, repetition)


def test_measured_direction_steers(make_sampler: Any, make_prompt: Any) -> None:
    """Steering shifts what is fed back against the direction it was given."""
    sampler = make_sampler(solver="ode", steps=6)
    direction = measured(sampler, make_prompt)
    assert direction.shape == (16,)
    assert direction.norm().item() == pytest.approx(1, abs=1e-5)
    steered = replace(
        sampler,
        settings=replace(sampler.settings, repetition_control=2.0),
        repetition_direction=direction,
    )
    unsteered = sampler.sample(make_prompt(range(20)), seed=0)
    assert not torch.equal(steered.sample(make_prompt(range(20)), seed=0).latents, unsteered.latents)
    assert torch.equal(measured(steered, make_prompt), direction), "measuring is unsteered"


def test_control_without_means_is_refused(make_sampler: Any, make_network: Callable[..., ELFNetwork]) -> None:
    with pytest.raises(UserError, match="direction of repetition is not known"):
        make_sampler(repetition_control=2.0)
    with pytest.raises(UserError, match="no self-conditioning to steer"):
        make_sampler(make_network(self_conditioning=False), repetition_control=2.0)
