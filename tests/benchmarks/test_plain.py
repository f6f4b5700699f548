"""The obvious training step is the product's: loss, every gradient, and weights after some steps."""

from __future__ import annotations

import pytest
import torch
from benchmarks.batches import made_up_batch
from benchmarks.plain import plain_flops, plain_loss
from benchmarks.sizes import SIZES
from benchmarks.train_step import PlainTraining, ProductTraining
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from elf_lightning.batch import LatentBatch
from elf_lightning.objectives import ELFObjective, StepKey

TINY, CPU = SIZES["tiny"], torch.device("cpu")


def conditional_batch() -> LatentBatch:
    """Rows of different lengths, with a condition that some do not see."""
    batch = made_up_batch(TINY, TINY.batch_size, CPU)
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
def test_loss_hits_and_gradients_are_the_products(counts: tuple[int, int], conditional: bool) -> None:
    objective, network = ELFObjective(), TINY.network()
    batch = conditional_batch() if conditional else made_up_batch(TINY, TINY.batch_size, CPU)
    draws = objective.draw(batch.latents.shape, StepKey(0, 0, 0), CPU).with_counts(*counts)
    found = []
    losses = objective(network, batch, draws)
    for total, hits in ((losses.total, losses.decode_correct), plain_loss(objective, network, batch, draws)):
        network.zero_grad()
        total.backward()
        found.append((total, hits.float(), [p.grad.clone() for p in network.parameters()]))
    assert_close(*found, rtol=1e-3, atol=1e-5)


def test_some_whole_steps_end_in_the_same_weights() -> None:
    ways = [kind(TINY, CPU) for kind in (ProductTraining, PlainTraining)]
    start = [p.detach().clone() for p in TINY.network().parameters()]
    for _ in range(4):
        losses = [way() for way in ways]
        assert_close(*losses, rtol=1e-4, atol=1e-5)
    product, plain = (list(way.network.parameters()) for way in ways)
    assert_close(product, plain, rtol=1e-3, atol=1e-5)
    assert all((moved - first).abs().max() > 1e-4 for moved, first in zip(product, start, strict=True))
    assert_close(*(way.averages for way in ways), rtol=1e-3, atol=1e-5)


def test_flops_are_those_that_are_counted() -> None:
    objective, network = ELFObjective(), TINY.network()
    batch = made_up_batch(TINY, TINY.batch_size, CPU)
    draws = objective.draw(batch.latents.shape, StepKey(0, 0, 0), CPU)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        plain_loss(objective, network, batch, draws)[0].backward()
    assert counter.get_total_flops() == plain_flops(network, TINY.batch_size, TINY.max_length)
