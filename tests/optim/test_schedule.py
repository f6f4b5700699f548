from __future__ import annotations

from math import cos, inf, pi
from typing import Any

import pytest
import torch
from torch import nn

from elf_lightning.errors import UserError
from elf_lightning.optim import Decay, Schedule, learning_rate_factor, scaled_learning_rate


def rates(
    schedule: Schedule, total_steps: float, steps_per_epoch: int, count: int, peak: float = 0.002
) -> list[float]:
    """The learning rate of each optimizer step, as the optimizer sees it."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
    scheduler = schedule.build(optimizer, total_steps, steps_per_epoch)
    seen = []
    for _ in range(count):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_golden_muon_optax_learning_rates(golden: Any) -> None:
    recorded = golden("muon_optax")["lr"].tolist()
    warmup = recorded.index(max(recorded))
    assert rates(Schedule(warmup_steps=warmup), inf, 100, len(recorded), max(recorded)) == pytest.approx(
        recorded
    )


def test_warm_up_in_epochs_is_warm_up_in_their_steps() -> None:
    assert rates(Schedule(warmup_epochs=0.5), 20, 9, 20) == rates(Schedule(warmup_steps=4), 20, 9, 20)


def test_no_warm_up_starts_at_the_peak() -> None:
    assert rates(Schedule(), 3, 3, 3) == [0.002] * 3


def test_cosine_falls_from_the_peak_towards_zero() -> None:
    seen = rates(Schedule(warmup_steps=2, decay="cosine"), 12, 5, 12)
    expected = [0, 0.5] + [0.5 * (1 + cos(pi * step / 10)) for step in range(10)]
    assert seen == pytest.approx([0.002 * factor for factor in expected])


@pytest.mark.parametrize("decay", ["constant", "cosine"])
def test_a_warm_up_as_long_as_the_run_never_divides_by_zero(decay: Decay) -> None:
    assert [learning_rate_factor(step, 4, 4, decay) for step in range(5)] == [0, 0.25, 0.5, 0.75, 1]
    assert learning_rate_factor(9, 4, 4, "cosine") == 0


def test_a_resumed_run_continues_the_schedule() -> None:
    schedule = Schedule(warmup_steps=2, decay="cosine")
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    saved = schedule.build(optimizer, 10, 5)
    for _ in range(4):
        optimizer.step()
        saved.step()
    other = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    resumed = schedule.build(other, 10, 5)
    other.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(saved.state_dict())
    for _ in range(3):
        for each, scheduler in ((optimizer, saved), (other, resumed)):
            each.step()
            scheduler.step()
        assert other.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]


def test_the_rate_grows_with_the_global_batch() -> None:
    assert scaled_learning_rate(0.001, 512) == pytest.approx(0.002)
    with pytest.raises(UserError, match=r"^global_batch_size=0: .*$"):
        scaled_learning_rate(0.001, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup_steps": -1}, "warmup_steps=-1"),
        ({"warmup_epochs": -0.5}, "warmup_epochs=-0.5"),
        ({"warmup_epochs": float("nan")}, "warmup_epochs=nan"),
        ({"warmup_steps": 3, "warmup_epochs": 0.5}, "warmup_steps=3, warmup_epochs=0.5"),
        ({"decay": "linear"}, "decay='linear'"),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}: .*$") as caught:
        Schedule(**settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("schedule", [Schedule(warmup_steps=11), Schedule(warmup_epochs=2.2)])
def test_a_warm_up_longer_than_the_run_is_refused(schedule: Schedule) -> None:
    with pytest.raises(
        UserError, match=r"^warmup_.*: a warm-up of 11 steps is longer than the run of 10 steps; .*$"
    ):
        rates(schedule, 10, 5, 1)


def test_a_cosine_needs_an_end() -> None:
    with pytest.raises(UserError, match=r"^decay='cosine': .*max_epochs.*$"):
        rates(Schedule(decay="cosine"), inf, 5, 1)
