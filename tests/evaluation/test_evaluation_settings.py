from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from elf_lightning.errors import UserError
from elf_lightning.evaluation import EvaluationSettings, PublishedScores
from elf_lightning.metrics import MetricNumber
from elf_lightning.sampling import SamplingSettings

OWN = SamplingSettings(steps=9)


def test_the_default_is_the_models_own_settings() -> None:
    assert list(EvaluationSettings().configurations(OWN).values()) == [OWN]


def test_a_sweep_tries_all_combinations_in_each_setting() -> None:
    settings = EvaluationSettings(
        settings=[SamplingSettings(solver="ode"), SamplingSettings(temperature=1.0)],
        sweep={"guidance": [1, 2.5], "steps": [4, 8]},
    )
    found = list(settings.configurations(OWN).values())
    assert len(found) == 8
    assert {(one.solver, one.guidance, one.steps) for one in found} == {
        (solver, guidance, steps) for solver in ("ode", "sde") for guidance in (1, 2.5) for steps in (4, 8)
    }


def test_equal_configurations_are_evaluated_once() -> None:
    found = EvaluationSettings(sweep={"solver": ["ode", "sde"], "gamma": [0.5, 1.5]}).configurations(OWN)
    assert [one.solver for one in found.values()] == ["ode", "sde", "sde"]


def test_steps_in_a_sweep_replace_explicit_times() -> None:
    own = SamplingSettings(times=[0.0, 0.5, 1.0])
    assert [one.times for one in EvaluationSettings(sweep={"steps": [2]}).configurations(own).values()] == [
        None
    ]


CHANGES: dict[str, Any] = {
    "steps": 33,
    "solver": "heun",
    "gamma": 0.5,
    "grid": "uniform",
    "times": [0.0, 0.5, 1.0],
    "guidance": 1.25,
    "cfg_scale": 2.0,
    "temperature": 0.5,
    "top_k": 9,
    "known_words": True,
    "repetition_control": 2.0,
    "solver_options": {"max_growth": 1.5},
    "gamma_end": 0.5,
    "gamma_power": 2.0,
    "grid_per_batch": True,
    "early_exit_margin": 0.5,
    "early_exit_fraction": 0.9,
    "best_of": 2,
}


@pytest.mark.parametrize("name", [field.name for field in fields(SamplingSettings)])
def test_every_setting_shows_in_the_name(name: str) -> None:
    solver = "multistep" if name == "solver_options" else "sde"
    settings = SamplingSettings(temperature=1.0, solver=solver, gamma_end=0.2)
    assert settings.short_name != replace(settings, **{name: CHANGES[name]}).short_name


@pytest.mark.parametrize("name", ["gamma", "gamma_end", "gamma_power"])
def test_the_noise_of_ones_own_solver_shows_in_the_name(name: str) -> None:
    settings = SamplingSettings(solver="elf_lightning.sampling.Sde", gamma_end=0.2)
    assert settings.short_name != replace(settings, **{name: CHANGES[name]}).short_name
    assert settings.short_name.startswith("elf_lightning.sampling.Sde 32 steps")
    assert "gamma" not in SamplingSettings(solver="ode", gamma=2.0, gamma_end=0.2).short_name


def test_names_omit_default_values() -> None:
    assert SamplingSettings().short_name == "SDE 32 steps, gamma 1.5, w 3"
    assert SamplingSettings.text_to_text().short_name == "ODE 64 steps, w 1, cfg scale 2"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"num_samples": 0}, "evaluation.num_samples is 0; it must be at least 1"),
        ({"batch_size": 0}, "evaluation.batch_size is 0; it must be at least 1"),
        ({"seeds": []}, "evaluation.seeds is []; give one or more different seeds"),
        ({"seeds": [1, 1]}, "evaluation.seeds is [1, 1]; give one or more different seeds"),
        ({"sweep": {"guidence": [1]}}, "'guidence' cannot be swept; choose from steps, solver"),
        ({"sweep": {"times": [1]}}, "'times' cannot be swept"),
        ({"sweep": {"steps": []}}, "evaluation.sweep.steps has no values"),
        ({"sweep": {"steps": [32.5]}}, "evaluation.sweep.steps has the value 32.5; give values of type int"),
        ({"sweep": {"gamma": ["x"]}}, "evaluation.sweep.gamma has the value 'x'; give values of type float"),
        ({"sweep": {"solver": [1]}}, "evaluation.sweep.solver has the value 1; give names"),
        ({"sweep": {"solver": ["rk45"]}}, "sampling.solver is 'rk45'"),
        ({"sweep": {"steps": [0]}}, "sampling.steps is 0"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as error:
        EvaluationSettings(**changes)
    assert expected in str(error.value)


def test_a_published_result_is_a_row_in_the_units_of_the_metrics() -> None:
    numbers = {
        "rouge1": MetricNumber("rouge1", "ROUGE-1", percent=True),
        "bleu": MetricNumber("bleu", "BLEU"),
    }
    row = PublishedScores("a paper", {"bleu": 26.4, "rouge1": 36.0}, num_samples=3003).scores(numbers)
    assert (row.name, row.kind, row.num_samples) == ("published: a paper", "published", 3003)
    assert {name: one.mean for name, one in row.metrics.items()} == {"bleu": 26.4, "rouge1": 0.36}
    with pytest.raises(UserError, match="'gen_ppl' is not measured here; choose from rouge1, bleu"):
        PublishedScores("a paper", {"gen_ppl": 24.1}).scores(numbers)


CONF = Path(__file__).parents[2] / "conf" / "eval"


def test_the_frontier_sweeps_guidance_gamma_and_steps() -> None:
    swept = yaml.safe_load((CONF / "frontier.yaml").read_text())["model"]["evaluation"]
    found = (
        EvaluationSettings(**swept).configurations(SamplingSettings(solver="ode", temperature=0.5)).values()
    )
    assert len(found) == 36
    assert {one.solver for one in found} == {"sde"}
    assert {one.temperature for one in found} == {0.5}
    for name in ("guidance", "gamma", "steps"):
        assert len({getattr(one, name) for one in found}) >= 3
