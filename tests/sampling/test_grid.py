"""Times from noise to data."""

from __future__ import annotations

from itertools import pairwise

import pytest

from elf_lightning.flow import LogitNormal
from elf_lightning.sampling import SamplingSettings, time_grid


def test_drawn_times_rise_from_0_to_1() -> None:
    times = time_grid(SamplingSettings(steps=64), LogitNormal(), seed=3)
    assert len(times) == 65
    assert (times[0], times[-1]) == (0.0, 1.0)
    assert all(earlier < later for earlier, later in pairwise(times))


def test_drawn_times_follow_the_training_distribution() -> None:
    times = time_grid(SamplingSettings(steps=4000), LogitNormal(mean=-1.5, std=0.8), seed=0)
    assert times[2000] == pytest.approx(0.1824, abs=0.01)  # sigmoid(-1.5), the median


def test_drawn_times_depend_on_the_seed_alone() -> None:
    settings = SamplingSettings(steps=8)
    assert time_grid(settings, LogitNormal(), 1) == time_grid(settings, LogitNormal(), 1)
    assert time_grid(settings, LogitNormal(), 1) != time_grid(settings, LogitNormal(), 2)


@pytest.mark.parametrize("grid", ["logit_normal", "quantiles", "uniform"])
def test_one_step_goes_all_the_way(grid: str) -> None:
    assert time_grid(SamplingSettings(steps=1, grid=grid), LogitNormal(), 0) == (0.0, 1.0)  # type: ignore[arg-type]


def test_quantiles_are_the_same_for_every_seed_and_lie_where_the_draws_do_on_average() -> None:
    settings, times = SamplingSettings(steps=16, grid="quantiles"), LogitNormal()
    grid = time_grid(settings, times, seed=1)
    assert grid == time_grid(settings, times, seed=2)
    assert len(grid) == 17
    assert grid[8] == pytest.approx(0.18243, abs=1e-5)  # sigmoid(-1.5), the median
    drawn = [time_grid(SamplingSettings(steps=16), times, seed) for seed in range(300)]
    means = [sum(column) / len(column) for column in zip(*drawn, strict=True)]
    assert grid == pytest.approx(means, abs=0.05)


def test_uniform_times_are_even() -> None:
    assert time_grid(SamplingSettings(steps=4, grid="uniform"), LogitNormal(), 0) == (0, 0.25, 0.5, 0.75, 1)


def test_given_times_replace_steps_and_grid() -> None:
    settings = SamplingSettings(steps=9, times=[0.0, 0.3, 1.0])
    assert time_grid(settings, LogitNormal(), 0) == (0.0, 0.3, 1.0)
