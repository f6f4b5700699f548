"""A user's own LightningModule and LightningDataModule, unknown to ELF, train through `elf fit`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from elf_lightning.cli import main

CODE = """
from collections.abc import Callable

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch.nn.functional import softplus
from torch.utils.data import DataLoader


class Regression(LightningModule):
    def __init__(self, width: int = 3, activation: Callable[[torch.Tensor], torch.Tensor] = softplus):
        super().__init__()
        self.activation = activation
        self.layer = torch.nn.Linear(width, 1)

    def training_step(self, batch, batch_idx):
        return self.activation(self.layer(batch)).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Numbers(LightningDataModule):
    def __init__(self, width: int = 3):
        super().__init__()
        self.width = width

    def train_dataloader(self):
        return DataLoader(torch.ones(8, self.width), batch_size=2)
"""
TRAINER = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--trainer.enable_progress_bar=false"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Works in a folder with the user's classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_classes", raising=False)
    Path("own_classes.py").write_text(CODE)
    Path("own.yaml").write_text(
        "model: {class_path: own_classes.Regression, init_args: {width: 5}}\n"
        "data: {class_path: own_classes.Numbers, init_args: {width: 5}}\n"
    )


@pytest.mark.parametrize(
    ("words", "width"),
    [
        (["--config", "own.yaml"], 5),
        (["--model", "own_classes.Regression", "--data", "own_classes.Numbers"], 3),
    ],
)
def test_own_model_and_data_train(words: list[str], width: int) -> None:
    assert main(["fit", *words, *TRAINER, "--name", "own"]) == 0
    checkpoint = torch.load("runs/own/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 4
    assert checkpoint["state_dict"]["layer.weight"].shape == (1, width)


def test_a_run_of_ones_own_module_is_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "--config", "own.yaml", *TRAINER, "--name", "own"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "saved    runs/own/checkpoints/last.ckpt, step 4" in printed
    assert "elf sample" not in printed, "which cannot read it"
    assert main([*words, "--trainer.max_epochs=2", "--ckpt_path", "runs/own"]) == 0
    assert torch.load("runs/own/checkpoints/last.ckpt", weights_only=True)["global_step"] == 8

    torch.save({"state_dict": {}, "optimizer_states": []}, "foreign.ckpt")
    assert main([*words, "--ckpt_path", "foreign.ckpt"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith("foreign.ckpt was not written by a run of elf_lightning; give a checkpoint of a run")


def test_a_plan_of_own_classes_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--config", "own.yaml", *TRAINER]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(
        "elf plan: there is no plan for model Regression with data Numbers; use a Training"
    )
