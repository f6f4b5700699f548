"""The chunked cross-entropy against all logits at once, and what it never holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.kernel_program import needs_triton, output_of
from torch import Tensor
from torch.testing import assert_close

from elf_lightning.network import ELFNetwork, NetworkConfig, projections
from elf_lightning.objectives.token_loss import token_cross_entropy

VOCABULARY, HIDDEN = 300, 32


def network() -> ELFNetwork:
    shape = NetworkConfig(hidden_size=HIDDEN, depth=1, num_heads=2, bottleneck_size=8)
    return ELFNetwork(shape, 16, VOCABULARY, 12, generator=torch.Generator().manual_seed(0))


def inputs(rows: int, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    hidden = (scale * torch.randn(rows, 12, HIDDEN)).requires_grad_()
    return hidden, torch.randint(VOCABULARY, (rows, 12)), (torch.rand(rows, 12) < 0.8).float()


def full(net: ELFNetwork, hidden: Tensor, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    logits = net.token_head(hidden)
    errors = F.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none").view_as(mask)
    return (errors * mask).sum(), ((logits.argmax(-1) == ids) * mask).sum()


@pytest.mark.parametrize("scale", [1.0, 300.0])
@pytest.mark.parametrize("chunk", [1, 7 * VOCABULARY, 60 * VOCABULARY, 10**9])
def test_loss_correct_and_gradients_are_those_of_all_logits(
    chunk: int, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projections, "CHUNK_LOGITS", chunk)
    net, (hidden, ids, mask) = network(), inputs(5, scale)
    ids[:2] = net.token_head(hidden)[:2].argmax(-1)
    results, gradients = [], []
    for way in (token_cross_entropy, full):
        error, correct = way(net, hidden, ids, mask)
        (0.3 * error).backward()
        results.append((error, correct))
        gradients.append([hidden.grad, *(p.grad for p in net.token_head.parameters())])
        hidden.grad = None
        net.zero_grad()
    assert results[0][1] == results[1][1] > 10
    assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)
    # Small probabilities round away beside others: relative to the largest number of each gradient.
    for chunked, reference in zip(*gradients, strict=True):
        assert_close(chunked, reference, rtol=1e-4, atol=1e-6 * reference.abs().max().item())


def test_memory_is_bounded_however_many_rows(
    monkeypatch: pytest.MonkeyPatch, largest_tensor: Callable[..., Any]
) -> None:
    chunk = 40 * VOCABULARY
    monkeypatch.setattr(projections, "CHUNK_LOGITS", chunk)
    net, (hidden, ids, mask) = network(), inputs(20)
    assert hidden.numel() < chunk < ids.numel() * VOCABULARY
    with largest_tensor() as largest:
        error, _ = token_cross_entropy(net, hidden, ids, mask)
        error.backward()
    assert largest.numbers == chunk
    with largest_tensor() as largest:
        full(net, hidden, ids, mask)
    assert largest.numbers == ids.numel() * VOCABULARY


def test_without_gradient_only_the_numbers() -> None:
    net, (hidden, ids, mask) = network(), inputs(3)
    with torch.no_grad():
        error, correct = token_cross_entropy(net, hidden, ids, mask)
        assert_close((error, correct), full(net, hidden, ids, mask))
    assert not error.requires_grad
    assert not correct.requires_grad


def test_no_rows_have_no_loss_and_zero_gradients() -> None:
    net, (hidden, ids, mask) = network(), inputs(0)
    error, correct = token_cross_entropy(net, hidden, ids, mask)
    error.backward()
    assert error == correct == 0
    assert all(not p.grad.any() for p in net.token_head.parameters() if p.grad is not None)
    assert all(p.grad is not None for p in net.token_head.parameters())


def test_a_hopeless_token_has_a_finite_loss() -> None:
    net, (hidden, ids, mask) = network(), inputs(1)
    with torch.no_grad():
        net.token_head.unembed.bias[0] = -1e4
    ids.zero_()
    error, correct = token_cross_entropy(net, hidden, ids, mask)
    error.backward()
    assert error.item() == pytest.approx(1e4 * mask.sum().item(), rel=0.01)
    assert not math.isnan(hidden.grad.sum().item())
    assert correct == 0


@needs_triton
def test_the_kernel_equals_the_formulas() -> None:
    output_of(Path(__file__).with_name("token_loss_by_kernel.py"))
