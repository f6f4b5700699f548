"""Names from earlier versions are accepted, with one warning."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from elf_lightning.cli import main
from elf_lightning.cli.config import CLASSES, KEYS, renamed_settings, resolved_arguments


@pytest.mark.parametrize(("old", "new"), KEYS.items())
def test_an_old_key_is_accepted_in_yaml(old: str, new: str, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "old.yaml").write_text(yaml.safe_dump({"data": {"init_args": [{old: 0.5}]}}))
    option, content = resolved_arguments(["--config", str(tmp_path / "old.yaml")])
    assert (option, json.loads(content)) == ("--config", {"data": {"init_args": [{new: 0.5}]}})
    warning = f"{tmp_path / 'old.yaml'}: {old} is now {new}; the old names still work\n"
    assert capsys.readouterr().err == warning


@pytest.mark.parametrize(("old", "new"), KEYS.items())
def test_an_old_key_is_accepted_as_an_option(old: str, new: str, capsys: Any) -> None:
    assert resolved_arguments([f"--data.{old}.x=1"]) == [f"--data.{new}.x=1"]
    assert capsys.readouterr().err == f"options: {old} is now {new}; the old names still work\n"


@pytest.mark.parametrize(("old", "new"), CLASSES.items())
def test_an_old_class_is_accepted(old: str, new: str) -> None:
    for settings in ({"optimizer": old}, {"model": {"class_path": old, "init_args": {}}}):
        found: list[str] = []
        renamed = renamed_settings(settings, found)
        assert renamed == json.loads(json.dumps(settings).replace(f'"{old}"', f'"{new}"'))
        assert found == [f"{old} is now {new}"]
    assert resolved_arguments([f"--model.optimizer={old}"]) == [f"--model.optimizer={new}"]
    for option in ("--model.optimizer", "--model.optimizer.help", "--model"):
        assert resolved_arguments([option, old]) == [option, new]


def test_new_names_give_no_warning(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "new.yaml"
    path.write_text(yaml.safe_dump({"model": {"optimizer": "MuonSettings"}}))
    words = ["fit", "--config", str(path), "--data.validation_fraction", "0.1"]
    assert resolved_arguments(words) == words
    assert capsys.readouterr().err == ""


def test_a_configuration_of_an_earlier_version_trains(
    write_config: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    config = Path(write_config(trainer__max_steps=1, trainer__limit_val_batches=0))
    settings = yaml.safe_load(config.read_text())
    source = settings["data"]["source"]["init_args"]
    source["held_out_fraction"] = source.pop("validation_fraction")
    settings["data"]["num_predict_rows"] = settings["data"].pop("num_predict_samples")
    settings["model"]["optimizer"]["class_path"] = "elf_lightning.optim.Muon"
    settings["model"]["evaluation"] = {"judge": {"name": "gpt2"}}
    config.write_text(yaml.safe_dump(settings))
    assert main(["fit", "--config", str(config)]) == 0
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if "old names still work" in line]
    for renamed in ("held_out_fraction", "num_predict_rows", "elf_lightning.optim.Muon", "judge"):
        assert f"{renamed} is now " in warning


def test_old_names_within_an_option_are_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "--data.source", "{class_path: JsonLines, init_args: {held_out_fraction: 0.2}}"]
    new = {"class_path": "JsonLines", "init_args": {"validation_fraction": 0.2}}
    assert resolved_arguments(words) == [*words[:2], json.dumps(new)]
    assert "held_out_fraction is now validation_fraction" in capsys.readouterr().err
    assert resolved_arguments([f"--data.source={words[-1]}"]) == [f"--data.source={json.dumps(new)}"]
    unchanged = ["fit", "--trainer.callbacks", "[EMA]", "--name", "[not yaml"]
    assert resolved_arguments(unchanged) == unchanged


@pytest.mark.parametrize(
    ("value", "kept"), [("{judge: 2024-01-02}", '{"scoring_model": "2024-01-02"}'), ("{a: 2024-13-45}",) * 2]
)
def test_dates_within_an_option_are_for_the_parser_to_judge(value: str, kept: str) -> None:
    assert resolved_arguments([f"--model.evaluation={value}"]) == [f"--model.evaluation={kept}"]


def test_old_options_of_eval_text_are_accepted(
    tiny_scoring_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("let there be light\n")
    words = ["--judge", tiny_scoring_model, "--judge-dtype=float32", "--context-length", "32"]
    assert main(["eval-text", str(tmp_path / "a.txt"), *words, "--device", "cpu"]) == 0
    assert capsys.readouterr().err.splitlines()[0] == (
        "options: --judge is now --scoring-model, --judge-dtype is now --scoring-model-dtype; "
        "the old names still work"
    )
