"""Early exit: each sequence ends on its own once its tokens are settled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from elf_lightning.network import ELFNetwork
from elf_lightning.sampling import SamplingSettings, Step
from elf_lightning.sampling.decode import EarlyExit, most_likely

NETWORK_CONFIGURATIONS: list[dict[str, Any]] = [
    {"solver": "sde"},
    {"solver": "heun"},
    {"solver": "multistep"},
    {"solver": "ode", "cfg_scale": 2.0},
]


class Decoder:
    """A network that decodes latents (B, S, V) to themselves as logits."""

    def __call__(self, latents: Tensor, *_: Any) -> Tensor:
        return latents

    def token_head(self, hidden: Tensor) -> Tensor:
        return hidden


def exit_of(generated: list[list[int]], **settings: Any) -> EarlyExit:
    chosen = SamplingSettings(steps=16, **{"early_exit_margin": 1.0, **settings})
    return EarlyExit(Decoder(), chosen, torch.tensor(generated).bool(), eos_id=3)  # type: ignore[arg-type]


def logits(tokens: list[list[int]], margins: list[list[float]]) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(tokens), 4) * torch.tensor(margins)[..., None]


def test_a_sequence_ends_when_its_tokens_stay_and_are_certain() -> None:
    early_exit = exit_of([[1, 1]] * 3)
    certain = [[2.0, 2.0], [2.0, 2.0], [2.0, 0.5]]
    assert not early_exit.check(logits([[0, 1], [0, 1], [0, 1]], certain))
    assert early_exit.running.tolist() == [True] * 3, "there is no check before to compare with"
    assert not early_exit.check(logits([[0, 1], [0, 2], [0, 1]], certain))
    assert early_exit.running.tolist() == [False, True, True], "one token changed, one is not certain"
    assert early_exit.check(logits([[9 % 4, 1], [0, 2], [0, 1]], [[0.0, 0.0], [2.0, 2.0], [2.0, 2.0]]))
    assert not early_exit.running.any()


def test_the_fraction_of_settled_tokens_can_be_lower() -> None:
    uncertain = logits([[0, 1, 2, 0]], [[2.0, 2.0, 2.0, 0.1]])
    for fraction, ends in ((1.0, False), (0.75, True)):
        early_exit = exit_of([[1] * 4], early_exit_fraction=fraction)
        early_exit.check(uncertain)
        assert early_exit.check(uncertain) is ends


def test_given_positions_and_those_after_the_end_do_not_matter() -> None:
    early_exit = exit_of([[0, 1, 1, 1]])
    eos = 3
    early_exit.check(logits([[eos, 1, eos, 0]], [[0.1, 2.0, 2.0, 0.1]]))
    assert early_exit.check(logits([[2, 1, eos, 1]], [[0.1, 2.0, 2.0, 0.1]]))


def test_the_end_itself_must_be_certain() -> None:
    early_exit = exit_of([[1, 1]])
    for _ in range(2):
        assert not early_exit.check(logits([[3, 0]], [[0.5, 2.0]]))


@pytest.mark.parametrize(
    ("steps", "after"), [(32, [16, 20, 24, 28]), (8, [4, 5, 6, 7]), (2, [1]), (1, list[int]())]
)
def test_checks_follow_eighths_of_the_second_half(steps: int, after: list[int]) -> None:
    early_exit = EarlyExit(Decoder(), SamplingSettings(steps=steps), torch.ones(1, 1), 0)  # type: ignore[arg-type]
    assert [number + 1 for number in range(steps) if early_exit.due(number)] == after


@torch.no_grad()
def test_margin_is_between_the_two_largest_logits(make_network: Callable[..., ELFNetwork]) -> None:
    network, latents = make_network(), torch.randn(2, 12, 16)
    tokens, margins = most_likely(network, latents, 3.0)
    assert torch.equal(tokens, network.decode_tokens(latents, torch.full((2,), 3.0)))
    gate = torch.ones(2)
    every = network.token_head(network(latents, gate, gate * 3, gate, torch.zeros_like(latents)))
    torch.testing.assert_close(margins, every.max(-1).values - every.kthvalue(39, dim=-1).values)


@pytest.mark.parametrize("settings", NETWORK_CONFIGURATIONS)
def test_steps_are_saved_and_the_batch_does_not_matter(
    make_sampler: Any, make_prompt: Any, settings: Any
) -> None:
    sampler = make_sampler(steps=16, early_exit_margin=0.02, early_exit_fraction=0.7, **settings)
    prompt = make_prompt(range(12), [0, 3] * 6)
    whole = sampler.sample(prompt, 5)
    full = 31 if settings["solver"] == "heun" else 16
    assert (whole.network_calls < full).any()
    assert len(whole.network_calls.unique()) > 1, "sequences end at different steps"
    for start in range(0, 12, 5):
        part = sampler.sample(prompt.map(lambda tensor: tensor[start : start + 5]), 5)  # noqa: B023
        assert torch.equal(part.tokens, whole.tokens[start : start + 5])
        assert torch.equal(part.network_calls, whole.network_calls[start : start + 5])


def test_ended_sequences_cost_nothing_and_end_at_their_estimate(
    make_sampler: Any, make_prompt: Any, make_network: Callable[..., ELFNetwork]
) -> None:
    network, sizes, steps = make_network(), list[int](), list[Step]()
    sampler = make_sampler(network, steps=16, early_exit_margin=1e-9, early_exit_fraction=0.0, solver="sde")
    network.latent_head.register_forward_hook(lambda module, given, out: sizes.append(len(out)))
    result = sampler.sample(make_prompt(range(3)), 0, trajectory_steps=[15], on_step=steps.append)
    assert sizes == [3] * 8, "all end at the first check"
    assert result.network_calls.tolist() == [9] * 3
    assert (steps[-1].number, steps[-1].time) == (15, 1.0)
    assert torch.equal(result.latents, steps[-1].estimate)
    assert torch.equal(result.trajectory.tokens[-1], result.tokens)


def test_batches_that_end_early_have_the_same_steps_as_others(make_sampler: Any, make_prompt: Any) -> None:
    kept, seen = (0, 4, 9, 15), list[int]()
    early = make_sampler(steps=16, early_exit_margin=1e-9, early_exit_fraction=0.0)
    result = early.sample(make_prompt(range(3)), 0, None, kept, lambda step: seen.append(step.number))
    assert result.network_calls.tolist() == [9] * 3
    assert seen == [*range(16)]
    usual = make_sampler(steps=16).sample(make_prompt(range(3)), 0, None, kept)
    assert result.trajectory.times == usual.trajectory.times
    assert torch.equal(result.trajectory.tokens[2], result.tokens), "final before the last step"


def test_a_margin_out_of_reach_changes_nothing(make_sampler: Any, make_prompt: Any) -> None:
    without = make_sampler(steps=8).sample(make_prompt(range(3)), 0)
    unreached = make_sampler(steps=8, early_exit_margin=1e9).sample(make_prompt(range(3)), 0)
    assert torch.equal(unreached.latents, without.latents)
    assert unreached.network_calls.tolist() == [12] * 3, "four checks were in vain"
