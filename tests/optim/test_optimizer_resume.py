"""A resumed run takes averages and counters from a checkpoint, and everything else from its settings."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from elf_lightning.optim import AdamWSettings, MuonSettings, OptimizerSettings, Schedule

TOTAL = 20


def built(settings: OptimizerSettings, rate: float, warmup: int = 2) -> tuple[nn.Module, Optimizer, LambdaLR]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = settings.build(network, rate)
    return network, optimizer, Schedule(warmup, decay="cosine").build(optimizer, TOTAL, 5)


def train(network: nn.Module, optimizer: Optimizer, schedule: LambdaLR, steps: range) -> list[Tensor]:
    for step in steps:
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        network(x).square().mean().backward()
        optimizer.step()
        schedule.step()
    return [p.detach().clone() for p in network.parameters()]


def resumed(
    before: tuple[nn.Module, Optimizer, LambdaLR], after: tuple[nn.Module, Optimizer, LambdaLR]
) -> tuple[nn.Module, Optimizer, LambdaLR]:
    for new, old in zip(after, before, strict=True):
        new.load_state_dict(copy.deepcopy(old.state_dict()))
    return after


@pytest.mark.parametrize("settings", [MuonSettings(), AdamWSettings(weight_decay=0.1)])
def test_the_same_settings_go_on_to_the_same_bits(settings: OptimizerSettings) -> None:
    whole = train(*built(settings, 0.1), range(8))
    parts = built(settings, 0.1)
    train(*parts, range(5))
    end = train(*resumed(parts, built(settings, 0.1)), range(5, 8))
    torch.testing.assert_close(end, whole, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("first", "then", "name", "value"),
    [
        (MuonSettings(), MuonSettings(momentum=0.5), "momentum", 0.5),
        (MuonSettings(), MuonSettings(weight_decay=0.1), "weight_decay", 0.1),
        (AdamWSettings(), AdamWSettings(betas=(0.5, 0.6)), "betas", (0.5, 0.6)),
    ],
)
def test_changed_settings_take_effect(
    first: OptimizerSettings, then: OptimizerSettings, name: str, value: object
) -> None:
    parts = built(first, 0.1)
    train(*parts, range(5))
    _, optimizer, schedule = resumed(parts, built(then, 0.01))
    whole = built(then, 0.01)
    train(*whole, range(5))
    assert optimizer.param_groups[0][name] == value
    assert [g["lr"] for g in optimizer.param_groups] == [g["lr"] for g in whole[1].param_groups]
    assert schedule.last_epoch == 5
    assert optimizer.state_dict()["state"].keys() == parts[1].state_dict()["state"].keys()


def test_the_steps_of_groups_are_restored() -> None:
    parts = built(MuonSettings(), 0.1)
    train(*parts, range(5))
    _, optimizer, _ = resumed(parts, built(MuonSettings(), 0.01))
    assert [group["step"] for group in optimizer.param_groups] == [5, 5]


def test_another_schedule_takes_effect() -> None:
    parts = built(MuonSettings(), 0.1)
    train(*parts, range(5))
    _, optimizer, _ = resumed(parts, built(MuonSettings(), 0.1, warmup=10))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
