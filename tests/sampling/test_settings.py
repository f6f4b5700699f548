"""Settings that cannot be sampled with are refused where they are given."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from elf_lightning.errors import UserError
from elf_lightning.sampling import SamplingSettings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": 0}, "sampling.steps is 0"),
        (
            {"solver": "rk45"},
            "'rk45'; known are ode, euler, sde, heun, multistep, feedback; or give the class path",
        ),
        ({"solver": "no_such_package.Midpoint"}, "No module named 'no_such_package'"),
        ({"solver": "json.Midpoint"}, "'json.Midpoint'"),
        ({"solver": "json.JSONDecoder"}, "not a subclass of elf_lightning.sampling.Solver"),
        ({"solver": "ode", "solver_options": {"order": 3}}, "{'order': 3}: Euler() takes no arguments"),
        ({"gamma_end": -1.0}, "sampling.gamma_end is -1.0"),
        ({"gamma_power": float("inf")}, "sampling.gamma_power is inf"),
        ({"early_exit_margin": -0.1}, "sampling.early_exit_margin is -0.1"),
        ({"best_of": 0}, "sampling.best_of is 0; it must be 1 to 10,000"),
        ({"early_exit_fraction": 1.5}, "sampling.early_exit_fraction is 1.5; it must be at most 1"),
        ({"grid": "cosine"}, "'cosine'; known are logit_normal, quantiles, uniform"),
        ({"gamma": -1.0}, "sampling.gamma is -1.0"),
        ({"guidance": float("nan")}, "sampling.guidance is nan"),
        ({"cfg_scale": -0.5}, "sampling.cfg_scale"),
        ({"temperature": -1.0}, "sampling.temperature"),
        ({"top_k": -1, "temperature": 1.0}, "sampling.top_k is -1"),
        ({"top_k": 5}, "set a temperature above 0"),
        ({"repetition_control": -2.0}, "sampling.repetition_control"),
        ({"times": [0.0]}, "rising times"),
        ({"times": [0.0, 0.5]}, "end at 1"),
        ({"times": [0.1, 1.0]}, "start at 0"),
        ({"times": [0.0, 0.5, 0.5, 1.0]}, "rising times"),
    ],
)
def test_bad_value_is_one_line(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        SamplingSettings(**settings)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_plain_types_there_and_back() -> None:
    settings = SamplingSettings(steps=3, solver="heun", times=[0.0, 0.5, 1.0])
    assert SamplingSettings(**asdict(settings)) == settings


def test_published_defaults() -> None:
    text = SamplingSettings()
    assert (text.steps, text.solver, text.gamma, text.guidance, text.cfg_scale) == (32, "sde", 1.5, 3.0, 1.0)
    pairs = SamplingSettings.text_to_text()
    assert (pairs.steps, pairs.solver, pairs.guidance, pairs.cfg_scale) == (64, "ode", 1.0, 2.0)
