"""A whole run through the real command, on a tiny T5 with random weights."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from elf_lightning.cli import main


def logged(column: str) -> list[float]:
    """The values of a column of the newest CSV log."""
    newest = max(
        Path("runs/tiny/csv").glob("version_*/metrics.csv"), key=lambda path: path.stat().st_mtime_ns
    )
    with newest.open() as file:
        return [float(row[column]) for row in csv.DictReader(file) if row.get(column)]


def test_a_resumed_run_equals_an_uninterrupted_one(write_config: Callable[..., str]) -> None:
    config = write_config(trainer__max_steps=8)
    main(["fit", "--config", config])
    straight = torch.load("runs/tiny/checkpoints/last.ckpt", weights_only=True)
    shutil.rmtree("runs")
    main(["fit", "--config", config, "--trainer.max_steps", "5"])
    main(["fit", "--config", config, "--ckpt_path", "runs/tiny"])
    resumed = torch.load("runs/tiny/checkpoints/last.ckpt", weights_only=True)
    assert resumed["global_step"] == straight["global_step"] == 8
    for name, value in straight["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], value), name


def test_trains_validates_checkpoints_resumes_and_predicts(write_config: Callable[..., str]) -> None:
    config = write_config()
    assert main(["fit", "--config", config]) == 0
    assert len(logged("train/loss")) == 6
    for name in ("val/denoise_loss", "val/decode_loss", "val/decode_accuracy", "val/clean_decode_accuracy"):
        assert len(logged(name)) == 2, name

    checkpoint = "runs/tiny/checkpoints/last.ckpt"
    kept = torch.load(checkpoint, weights_only=True)
    assert kept["global_step"] == kept["elf"]["step"] == 6
    assert kept["elf"]["network"]["hidden_size"] == 16
    assert kept["elf"]["codec"]["encoder"]["class"] == "PretrainedEncoder"

    assert main(["fit", "--config", config, "--ckpt_path", checkpoint, "--trainer.max_steps", "9"]) == 0
    assert len(logged("train/loss")) == 3
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 9

    assert main(["validate", "--config", config, "--ckpt_path", checkpoint]) == 0
    assert main(["predict", "--config", config, "--ckpt_path", checkpoint]) == 0
    records = [json.loads(line) for line in Path("runs/tiny/predictions.jsonl").read_text().splitlines()]
    assert [row["index"] for row in records] == [0, 1, 2, 3, 4]
    assert all(set(row) == {"index", "seed", "text", "tokens"} for row in records)
    assert any(row["text"] for row in records)


def test_a_saved_configuration_repeats_its_run_or_begins_another(write_config: Callable[..., str]) -> None:
    """Folders and seeds that follow from others are not written down."""
    config = write_config(trainer__max_steps=1)
    assert main(["fit", "--config", config, "--seed_everything", "7", "--data.seed", "3"]) == 0
    (saved,) = Path("runs/tiny").rglob("config.yaml")
    settings = yaml.safe_load(saved.read_text())
    assert settings["seed_everything"] == 7
    assert settings["data"]["init_args"]["seed"] == 3
    assert settings["model"]["init_args"]["seed"] is None

    def weights(name: str, *words: str) -> list[torch.Tensor]:
        assert main(["fit", "--config", str(saved), "--name", name, *words]) == 0
        content = torch.load(f"runs/{name}/checkpoints/last.ckpt", weights_only=True)
        return list(content["state_dict"].values())

    same, other = weights("again"), weights("other", "--seed_everything", "8")
    first = torch.load("runs/tiny/checkpoints/last.ckpt", weights_only=True)["state_dict"].values()
    assert all(map(torch.equal, first, same))
    assert not all(map(torch.equal, first, other))


def test_losses_fall(write_config: Callable[..., str]) -> None:
    config = write_config(trainer__max_steps=120, trainer__val_check_interval=20, trainer__max_epochs=-1)
    assert main(["fit", "--config", config]) == 0
    for name in ("val/denoise_loss", "val/decode_loss"):
        values = logged(name)
        assert values[-1] < values[0], name


@pytest.mark.parametrize(
    ("changes", "options", "expected"),
    [
        ({"model__networc": {"depth": 2}}, [], "networc"),
        ({"trainer__max_stepz": 3}, [], "max_stepz"),
        ({"data__source": {"class_path": "TextFiles", "init_args": {"path": "none.txt"}}}, [], "none.txt"),
        ({}, ["--ckpt_path", "runs/none.ckpt"], "runs/none.ckpt"),
        (
            {"data__encoder": {"class_path": "PretrainedEncoder", "init_args": {"name_or_path": "no/model"}}},
            [],
            "no/model",
        ),
        ({"model__network": {"hidden_size": 15, "num_heads": 2}}, [], "hidden_size"),
        ({"model__objective": {"mixing": "tokens"}}, [], "tokens"),
        ({"model__sampling": {"steps": 0}}, [], "steps"),
    ],
)
def test_bad_input_is_reported_in_one_line(
    changes: dict[str, Any],
    options: list[str],
    expected: str,
    write_config: Callable[..., str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    config = write_config(**changes)
    capfd.readouterr()
    assert main(["fit", "--config", config, *options]) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("elf fit: ")]
    assert len(lines) == 1
    assert expected in lines[0]
    assert len(lines[0]) < 400


def test_sequences_longer_than_the_encoders_limit_are_refused(
    write_config: Callable[..., str], tiny_bert: str, capfd: pytest.CaptureFixture[str]
) -> None:
    encoder = {"class_path": "PretrainedEncoder", "init_args": {"name_or_path": tiny_bert}}
    config = write_config(data__encoder=encoder, data__max_length=33)
    assert main(["fit", "--config", config]) == 2
    assert "data.max_length 33 is beyond the limit" in capfd.readouterr().err


def test_a_missing_configuration_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config", "nowhere.yaml"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "nowhere.yaml" in line


def test_a_checkpoint_of_another_network_is_refused(
    write_config: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", write_config(trainer__max_steps=1, trainer__val_check_interval=1)]) == 0
    other = write_config(model__network={"hidden_size": 32, "depth": 2, "num_heads": 2})
    capfd.readouterr()
    assert main(["fit", "--config", other, "--ckpt_path", "runs/tiny/checkpoints/last.ckpt"]) == 2
    assert "hidden_size 16 (here 32)" in capfd.readouterr().err


LAST = "runs/tiny/checkpoints/last.ckpt"
SHORT = {"trainer__max_steps": 1, "trainer__val_check_interval": 1}


def refusal(words: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    """The line with which the command refuses."""
    capfd.readouterr()
    assert main(words) == 2
    (line,) = (line for line in capfd.readouterr().err.splitlines() if line.startswith(f"elf {words[0]}: "))
    return line


def test_a_checkpoint_of_other_data_is_refused(
    write_config: Callable[..., str], tiny_t5: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", write_config(**SHORT)]) == 0
    cut = {"class_path": "PretrainedEncoder", "init_args": {"name_or_path": tiny_t5, "layer": 2}}
    for changes, expected in (
        ({"data__encoder": cut}, "encoder layer None (here 2)"),
        ({"data__pad_mode": "eos"}, "data.pad_mode"),
        ({"data__latent_mean": 3.0, "data__latent_std": 1.0}, "data.latent_mean"),
    ):
        config = write_config(**SHORT, **changes)
        for command in ("fit", "validate"):
            assert expected in refusal([command, "--config", config, "--ckpt_path", LAST], capfd)


def test_settings_that_do_not_affect_weights_may_change(
    write_config: Callable[..., str], tiny_t5: str
) -> None:
    assert main(["fit", "--config", write_config(**SHORT)]) == 0
    moved = Path("moved") / Path(tiny_t5).name
    shutil.copytree(tiny_t5, moved)
    encoder = {"class_path": "PretrainedEncoder", "init_args": {"name_or_path": str(moved)}}
    other = write_config(trainer__max_steps=2, trainer__val_check_interval=1, data__encoder=encoder)
    lighter = ["--model.network.gradient_checkpointing", "true", "--model.network.dropout", "0.1"]
    assert main(["fit", "--config", other, "--ckpt_path", LAST, *lighter]) == 0
    assert torch.load(LAST, weights_only=True)["global_step"] == 2


def test_damaged_checkpoints_are_refused(
    write_config: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    config = write_config(**SHORT)
    assert main(["fit", "--config", config]) == 0
    whole = Path(LAST).read_bytes()
    torch.save({"state_dict": {}}, "foreign.ckpt")
    foreign = Path("foreign.ckpt").read_bytes()
    for content, expected in (
        (b"", "empty"),
        (b"a text\n", "damaged"),
        (whole[: len(whole) // 2], "damaged"),
        (foreign, "was not written by a run"),
    ):
        Path("given.ckpt").write_bytes(content)
        for command in ("fit", "validate"):
            line = refusal([command, "--config", config, "--ckpt_path", "given.ckpt"], capfd)
            assert "--ckpt_path given.ckpt" in line
            assert expected in line


def test_a_checkpoint_without_optimizer_state_cannot_be_resumed(
    write_config: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    config = write_config(**SHORT)
    assert main(["fit", "--config", config]) == 0
    content = torch.load(LAST, weights_only=True)
    torch.save({name: content[name] for name in content if name != "optimizer_states"}, "light.ckpt")
    assert "--model.init_from light.ckpt" in refusal(
        ["fit", "--config", config, "--ckpt_path", "light.ckpt"], capfd
    )


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_random_weights_are_refused(
    command: str, write_config: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert "--ckpt_path" in refusal([command, "--config", write_config()], capfd)


def test_weights_from_init_from_can_be_validated(write_config: Callable[..., str]) -> None:
    config = write_config(**SHORT)
    assert main(["fit", "--config", config]) == 0
    assert main(["validate", "--config", config, "--model.init_from", "runs/tiny"]) == 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"trainer__precision": "bf16-true"}, "trainer.precision bf16-true"),
        ({"trainer__precision": 64}, "trainer.precision 64-true"),
        ({"trainer__val_check_interval": 1000}, "trainer.val_check_interval 1000 is more than the"),
    ],
)
def test_impossible_trainer_settings_are_refused(
    changes: dict[str, Any],
    expected: str,
    write_config: Callable[..., str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert expected in refusal(["fit", "--config", write_config(**changes)], capfd)
