"""The baseline equals ours: hidden states, loss, every gradient, and weights after some steps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from benchmarks.baseline.network import hidden_states
from benchmarks.baseline.training import baseline_loss, baseline_step_flops
from benchmarks.batches import RandomBatches
from benchmarks.measure import counted_flops
from benchmarks.sizes import SIZES
from benchmarks.training import BaselineTraining, Training
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing import assert_close

from elf_lightning.batch import LatentBatch
from elf_lightning.objectives import ELFObjective, StepKey

TINY, CPU = SIZES["tiny"], torch.device("cpu")


@pytest.mark.parametrize("changes", [{}, {"self_conditioning": False, "num_guidance_tokens": 0}])
@pytest.mark.parametrize("length", [TINY.max_length, 5])
def test_hidden_states_and_gradients_are_equal(changes: dict[str, int], length: int) -> None:
    network = replace(TINY, config=replace(TINY.config, **changes)).network()  # type: ignore[arg-type]
    z, self_cond = torch.randn(2, 3, length, TINY.latent_size)
    scalars = torch.rand(3, 3)
    found = {}
    for name, forward in {
        "ours": network,
        "baseline": lambda *inputs: hidden_states(network, *inputs),
    }.items():
        network.zero_grad()
        hidden = forward(z, *scalars, self_cond)
        hidden.square().mean().backward()
        gradients = [p.grad.clone() for p in network.parameters() if p.grad is not None]
        found[name] = [hidden.detach(), *gradients]
    assert len(found["ours"]) == len(found["baseline"]) > 20
    assert_close(found["ours"], found["baseline"], atol=2e-6, rtol=1e-3)


def conditional_batch() -> LatentBatch:
    """Sequences of different lengths, with a condition that some do not see."""
    batch = RandomBatches(TINY, CPU)(TINY.batch_size)
    length = torch.arange(TINY.max_length)
    attention = length < torch.randint(8, TINY.max_length + 1, (TINY.batch_size, 1))
    condition = (length < 4).expand_as(attention)
    return LatentBatch(
        batch.input_ids,
        attention,
        condition,
        attention & ~condition,
        torch.arange(TINY.batch_size) % 3 == 0,
        batch.latents,
    )


@pytest.mark.parametrize("counts", [(2, 3), (0, 8), (8, 0), (3, 0)])
@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("late", [False, True])
def test_loss_correct_tokens_and_gradients_are_equal(
    counts: tuple[int, int], conditional: bool, late: bool
) -> None:
    objective, network = ELFObjective(), TINY.network()
    batch = conditional_batch() if conditional else RandomBatches(TINY, CPU)(TINY.batch_size)
    draws = objective.draw(batch.latents.shape, StepKey(0, 0, 0), CPU).with_counts(*counts)
    if late:  # on both sides of the bound of 1 - t
        draws = replace(draws, t=1 - torch.linspace(0, 2 * objective.path.t_eps, len(batch)))
    found = []
    losses = objective(network, batch, draws)
    for total, correct in (
        (losses.total, losses.decode_correct),
        baseline_loss(objective, network, batch, draws),
    ):
        network.zero_grad()
        total.backward()
        found.append((total, correct.float(), [p.grad.clone() for p in network.parameters()]))
    # Late, errors of velocities are up to 1 / t_eps times as large.
    assert_close(*found, rtol=1e-3, atol=1e-5 / objective.path.t_eps**2 if late else 1e-5)


def test_some_whole_steps_end_in_the_same_weights() -> None:
    batch = RandomBatches(TINY, CPU)(TINY.batch_size)
    trainings = [kind(TINY.network(), TINY.objective) for kind in (Training, BaselineTraining)]
    start = [p.detach().clone() for p in TINY.network().parameters()]
    for _ in range(4):
        losses = [training(batch) for training in trainings]
        assert_close(*losses, rtol=1e-4, atol=1e-5)
    ours, baseline = (list(training.network.parameters()) for training in trainings)
    assert_close(ours, baseline, rtol=1e-3, atol=1e-5)
    assert all((moved - first).abs().max() > 1e-4 for moved, first in zip(ours, start, strict=True))
    assert_close(*(training.averages for training in trainings), rtol=1e-3, atol=1e-5)


def test_flops_are_those_of_a_real_step() -> None:
    objective, network = TINY.objective, TINY.network()
    batch = RandomBatches(TINY, CPU)(TINY.batch_size)
    draws = objective.draw(batch.latents.shape, StepKey(0, 0, 0), CPU)
    with sdpa_kernel(SDPBackend.MATH):
        flops = counted_flops(lambda: baseline_loss(objective, network, batch, draws)[0].backward())
    assert flops == baseline_step_flops(TINY, TINY.batch_size)


def test_accumulated_micro_batches_are_one_step() -> None:
    batches = RandomBatches(TINY, CPU)
    training = Training(TINY.network(), ELFObjective())
    before = training.network.blocks[0].mlp.out.weight.clone()
    training(batches(4, 0), batches(4, 1))
    assert (training.steps, training.micro_batches) == (1, 2)
    assert not torch.equal(before, training.network.blocks[0].mlp.out.weight)


def test_the_average_warms_up() -> None:
    training = Training(TINY.network(), TINY.objective, decay=0.9)
    weight = training.weights[0]
    for value in (1.0, 4.0):
        torch.nn.init.constant_(weight, value)
        training.steps += 1
        training.average()
    assert training.averages[0].flatten()[0].item() == pytest.approx(2 / 11 * 1 + 9 / 11 * 4)
