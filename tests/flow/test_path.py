"""The path: its ends, its velocity, and the round trip between them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from elf_lightning.errors import UserError
from elf_lightning.flow import RectifiedPath

PATH = RectifiedPath()


def test_zero_is_noise_and_one_is_data() -> None:
    x, noise = torch.randn(2, 3, 5, 7)
    assert_close(PATH.interpolate(x, noise, torch.zeros(3)), PATH.noise_scale * noise)
    assert_close(PATH.interpolate(x, noise, torch.ones(3)), x)


@given(t=st.floats(0, 0.95), seed=st.integers(0, 100))
def test_velocity_leads_from_anywhere_to_the_data(t: float, seed: int) -> None:
    x, noise = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    times = torch.full((3,), t, dtype=torch.float64)
    z = PATH.interpolate(x, noise, times)
    velocity = PATH.velocity(x, z, times)
    assert_close(z + (1 - t) * velocity, x)
    assert_close(velocity, x - PATH.noise_scale * noise)


def test_velocity_is_bounded_near_the_data() -> None:
    x, z = torch.randn(2, 1, 4, 4)
    assert_close(PATH.velocity(x, z, torch.ones(1)), (x - z) / PATH.t_eps)


def test_times_may_differ_by_position() -> None:
    x, noise = torch.randn(2, 3, 5, 7)
    t = torch.rand(3, 5)
    whole = PATH.interpolate(x, noise, t)
    for position in range(5):
        assert_close(whole[:, position], PATH.interpolate(x[:, position], noise[:, position], t[:, position]))


@pytest.mark.parametrize("wrong", [{"noise_scale": 0.0}, {"t_eps": 0.0}, {"t_eps": 1.0}])
def test_impossible_paths_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=r"path\."):
        RectifiedPath(**wrong)
