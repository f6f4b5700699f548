"""The sampler as its users see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from elf_lightning.errors import UserError
from elf_lightning.network import ELFNetwork
from elf_lightning.sampling import Infill, Step
from elf_lightning.sampling.sampler import sequence_noise

SOLVERS = ("ode", "sde", "heun", "multistep", "feedback")


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_text_does_not_depend_on_the_batch(
    make_sampler: Any, make_prompt: Any, solver: str, temperature: float
) -> None:
    sampler = make_sampler(solver=solver, temperature=temperature)
    whole = sampler.sample(make_prompt(range(32)), seed=5).tokens
    for size in (1, 7):
        parts = [
            sampler.sample(make_prompt(range(start, min(start + size, 32))), seed=5).tokens
            for start in range(0, 32, size)
        ]
        assert torch.equal(torch.cat(parts), whole)


def test_noise_is_bit_equal_whatever_the_batch() -> None:
    def draws(index: list[int]) -> torch.Tensor:
        noise = sequence_noise(3, torch.tensor(index), torch.Size([5, 4]), 2.0, torch.device("cpu"))
        return torch.stack([noise(), noise()], dim=1)

    whole = draws([0, 1, 2, 3])
    assert torch.equal(whole, torch.cat([draws([0]), draws([1, 2]), draws([3])]))
    assert torch.equal(draws([3, 0]), whole[[3, 0]])
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(whole[:, 0], whole[:, 1])


def test_noise_has_the_scale_of_the_path() -> None:
    noise = sequence_noise(0, torch.arange(4), torch.Size([100, 100]), 2.0, torch.device("cpu"))
    assert noise().std().item() == pytest.approx(2.0, abs=0.05)


def test_seed_decides_the_text(make_sampler: Any, make_prompt: Any) -> None:
    sampler = make_sampler()
    first, again, other = (sampler.sample(make_prompt(range(4)), seed).tokens for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("solver", SOLVERS)
def test_condition_stays_and_leaves_the_tokens(make_sampler: Any, make_prompt: Any, solver: str) -> None:
    prompt = make_prompt(range(3), [0, 4, 11])
    result = make_sampler(solver=solver, cfg_scale=2.0).sample(prompt, seed=0)
    kept = prompt.condition_mask
    assert torch.equal(result.latents[kept], prompt.latents[kept])
    assert result.tokens.shape == (3, 12)
    assert result.tokens.dtype == torch.int64
    assert not result.tokens[1, 8:].any()
    assert not result.tokens[2, 1:].any()


def test_prompt_that_fills_its_sequence_is_refused(make_sampler: Any, make_prompt: Any) -> None:
    with pytest.raises(UserError, match="prompt 7 fills its sequence of 12 tokens"):
        make_sampler().sample(make_prompt(range(6, 8), [3, 12]), seed=0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_infilled_tokens_are_always_there(make_sampler: Any, make_prompt: Any, solver: str) -> None:
    eos = 1
    sampler = make_sampler(solver=solver, eos_id=eos)
    with torch.no_grad():
        sampler.network.token_head.unembed.bias[eos] = 100.0
    mask = torch.zeros(2, 12, dtype=torch.bool)
    mask[0, [2, 6]], mask[1, 9] = True, True
    infill = Infill(mask, torch.full((2, 12), 33), torch.randn(2, 12, 16))
    tokens = sampler.sample(make_prompt(range(2)), seed=0, infill=infill).tokens
    assert (tokens[mask] == 33).all()
    assert not tokens[0, 7:].any(), "after the last fixed token the text may end"


def test_infill_and_condition_together(make_sampler: Any, make_prompt: Any) -> None:
    mask = torch.zeros(1, 12, dtype=torch.bool)
    mask[0, 8] = True
    infill = Infill(mask, torch.full((1, 12), 33), torch.randn(1, 12, 16))
    tokens = make_sampler().sample(make_prompt(range(1), [3]), seed=0, infill=infill).tokens
    assert tokens[0, 8 - 3] == 33


def test_trajectory_keeps_the_chosen_steps(make_sampler: Any, make_prompt: Any) -> None:
    sampler = make_sampler(times=[0.0, 0.2, 0.5, 0.9, 1.0])
    seen: list[Step] = []
    result = sampler.sample(make_prompt(range(2)), 0, trajectory_steps=(1, 3), on_step=seen.append)
    assert [step.number for step in seen] == [0, 1, 2, 3]
    trajectory = result.trajectory
    assert [step.tokens is not None for step in seen] == [False, True, False, True]
    assert torch.equal(torch.stack([seen[1].tokens, seen[3].tokens]), trajectory.tokens)
    assert trajectory.times == (0.5, 1.0)
    assert trajectory.latents.shape == trajectory.estimates.shape == (2, 2, 12, 16)
    assert trajectory.tokens.shape == (2, 2, 12)
    assert torch.equal(trajectory.latents[-1], result.latents)
    assert sampler.sample(make_prompt(range(2)), 0).trajectory is None


def test_trajectory_changes_nothing(make_sampler: Any, make_prompt: Any) -> None:
    sampler = make_sampler(temperature=1.0)
    untraced = sampler.sample(make_prompt(range(2)), 0).tokens
    assert torch.equal(untraced, sampler.sample(make_prompt(range(2)), 0, trajectory_steps=range(4)).tokens)


def test_dropout_is_off_and_the_mode_comes_back(
    make_network: Callable[..., ELFNetwork], make_sampler: Any, make_prompt: Any
) -> None:
    network = make_network(dropout=0.5).train()
    tokens = make_sampler(network).sample(make_prompt(range(3)), 0).tokens
    assert network.training
    assert torch.equal(tokens, make_sampler(network.eval()).sample(make_prompt(range(3)), 0).tokens)
    assert not network.training


def test_network_without_self_conditioning(
    make_network: Callable[..., ELFNetwork], make_sampler: Any, make_prompt: Any
) -> None:
    network = make_network(self_conditioning=False, num_guidance_tokens=0)
    assert make_sampler(network).sample(make_prompt(range(2)), 0).tokens.shape == (2, 12)


@pytest.mark.parametrize(
    ("solver", "calls"), [("ode", 4), ("sde", 4), ("heun", 7), ("multistep", 4), ("feedback", 4)]
)
def test_network_calls_are_reported(make_sampler: Any, make_prompt: Any, solver: str, calls: int) -> None:
    result = make_sampler(solver=solver, steps=4).sample(make_prompt(range(3)), 0)
    assert result.network_calls.tolist() == [calls] * 3


def test_annealed_noise_changes_the_text_and_constant_noise_does_not(
    make_sampler: Any, make_prompt: Any
) -> None:
    def latents(**settings: Any) -> torch.Tensor:
        return make_sampler(steps=8, **settings).sample(make_prompt(range(2)), 0).latents

    constant = latents(gamma=1.5)
    assert torch.equal(latents(gamma=1.5, gamma_end=1.5, gamma_power=2.0), constant)
    assert not torch.equal(latents(gamma=1.5, gamma_end=0.0), constant)


def test_a_grid_per_batch_depends_on_the_first_number(make_sampler: Any, make_prompt: Any) -> None:
    def times(sampler: Any, index: range) -> list[float]:
        steps: list[float] = []
        sampler.sample(make_prompt(index), 0, on_step=lambda step: steps.append(step.time))
        return steps

    sampler = make_sampler(grid_per_batch=True)
    assert times(sampler, range(2)) == times(sampler, range(5))
    assert times(sampler, range(2)) != times(sampler, range(2, 4))
    assert times(make_sampler(), range(2)) == times(make_sampler(), range(2, 4))


@pytest.mark.parametrize("calls", [1, 3])
def test_feedback_calls_the_network_on_the_same_noise_at_the_start_alone(
    make_network: Callable[..., ELFNetwork], make_sampler: Any, make_prompt: Any, calls: int
) -> None:
    network, prompt = make_network(), make_prompt(range(2), [3, 0])
    steps: list[Step] = []
    sampler = make_sampler(network, solver="feedback", steps=calls)
    result = sampler.sample(prompt, 0, on_step=steps.append)
    z = (
        prompt.latents
        + ~prompt.condition_mask[..., None]
        * sequence_noise(0, prompt.index, prompt.latents.shape[1:], 2.0, prompt.latents.device)()
    )
    x_hat = prompt.latents
    for number in range(calls):
        x_hat = network.denoise(z, torch.zeros(2), torch.full((2,), 3.0), x_hat)
        x_hat = torch.where(prompt.condition_mask[..., None], prompt.latents, x_hat)
        torch.testing.assert_close(steps[number].estimate, x_hat)
    torch.testing.assert_close(result.latents, x_hat)
    assert result.network_calls.tolist() == [calls] * 2
