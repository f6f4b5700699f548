"""Unusable training settings are reported in one line, with setting, value and remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from elf_lightning.cli import main

TWO = {"trainer.devices": 2, "trainer.strategy": "ddp"}


@pytest.fixture
def config(tmp_path: Path, tiny_t5: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A small run of five steps an epoch."""
    monkeypatch.chdir(tmp_path)
    Path("lines.txt").write_text("in the beginning god created the heaven\n" * 25)
    source = {"path": "lines.txt", "document": "line", "validation_fraction": 0.2}
    settings = {
        "data": {
            "source": {"class_path": "TextFiles", "init_args": source},
            "encoder": {"class_path": "PretrainedEncoder", "init_args": {"name_or_path": tiny_t5}},
            "max_length": 8,
            "batch_size": 4,
            "cache_dir": "cache",
        },
        "model": {"network": {"hidden_size": 16, "depth": 1, "num_heads": 2}},
        "trainer": {"accelerator": "cpu", "max_epochs": 2, "logger": False, "enable_progress_bar": False},
    }
    Path("config.yaml").write_text(json.dumps(settings))
    return "config.yaml"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"model.optimizer": "Lion"},
            ["model.optimizer Lion is not a known class", "AdamWSettings, MuonSettings, or a class path"],
        ),
        ({"model.optimizer.learning_rate": 1}, ["learning_rate"]),
        ({"model.optimizer.base_learning_rate": -1}, ["base_learning_rate=-1.0", "positive"]),
        ({"model.objective.mixing": "tokens"}, ["mixing", "tokens", "rows", "steps", "devices"]),
        ({"model.schedule.warmup_steps": -3}, ["warmup_steps=-3", "0 (no warm-up) or more"]),
        ({"model.schedule.warmup_steps": 11}, ["warmup_steps=11", "longer than the run of 10 steps"]),
        ({"model.schedule.warmup_epochs": 2.5}, ["warmup_epochs=2.5", "longer than the run of 10 steps"]),
        ({"model.schedule.decay": "linear"}, ["decay", "linear", "cosine"]),
        ({"trainer.callbacks.decay": 1.0}, ["decay=1.0", "in [0, 1)"]),
        (
            TWO | {"data.batch_size": 1, "data.global_batch_size": 1},
            ["data.global_batch_size 1 is not a multiple of data.batch_size 1 x 2 device(s)", "change one"],
        ),
        ({"data.global_batch_size": 6}, ["data.global_batch_size 6", "data.batch_size 4"]),
        (TWO | {"data.batch_size": 11}, ["data.batch_size 11 x 2 device(s)", "20 training sequences"]),
        ({"data.batch_size": 0}, ["data.batch_size 0", "at least 1"]),
        ({"name": "../elsewhere"}, ["--name '../elsewhere'", "a folder below runs/"]),
        ({"name": "/elsewhere"}, ["--name '/elsewhere'", "a folder below runs/"]),
        ({"name": "."}, ["--name '.'", "a folder below runs/"]),
        ({"name": "a::b"}, ["--name 'a::b'", "a folder below runs/"]),
        ({"trainer.strategy": "dpp"}, ["trainer:", "strategy='dpp'", "ddp"]),
        ({"trainer.devices": 0}, ["devices", "0"]),
    ],
    ids=str,
)
def test_an_unusable_setting_is_reported_in_one_line(
    settings: dict[str, Any], expected: list[str], config: str, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [f"--{name}={value}" for name, value in settings.items() if name != "trainer.callbacks.decay"]
    if decay := settings.get("trainer.callbacks.decay"):
        ema = [{"class_path": "EMA", "init_args": {"decay": decay}}]
        words.append(f"--trainer.callbacks={json.dumps(ema)}")
    capfd.readouterr()
    assert main(["fit", "--config", config, *words]) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("elf fit: ")]
    assert all(word in line for word in expected), line


@pytest.mark.parametrize(
    ("section", "value", "expected"),
    [
        ("model.sampling", 0, "model.sampling is 0; write its settings as `name: value`"),
        ("data.max_length", None, "data.max_length has no value; give one, or leave it out"),
        ("trainer", [1], "trainer is [1]; give it another value, or leave it out"),
        ("seed_everything", None, "seed_everything is None; give it another value"),
    ],
)
def test_no_value_or_no_section_where_one_is_needed(
    section: str, value: Any, expected: str, config: str, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = json.loads(Path(config).read_text())
    *outer, last = section.split(".")
    place = settings
    for name in outer:
        place = place[name]
    place[last] = value
    Path(config).write_text(json.dumps(settings))
    assert main(["plan", "--config", config]) == 2
    assert capfd.readouterr().err.splitlines()[-1].startswith(f"elf plan: {expected}")


@pytest.mark.parametrize("text", ["- a\n- b", "day: 2024-13-45", "a: &a [*a]", "{a: ", "[" * 10_000])
def test_a_configuration_that_is_no_mapping_is_one_line(
    text: str, config: str, capfd: pytest.CaptureFixture[str]
) -> None:
    Path(config).write_text(text)
    assert main(["plan", "--config", config]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"elf plan: --config {config} ")
