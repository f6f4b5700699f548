"""A module that trains without data, and a Trainer for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from elf_lightning.batch import TokenBatch


class Scripted(LightningModule):
    """Logs given metrics beside its loss.

    Args:
        logged: metrics of each batch by name.
        validation: metrics of each validation.
    """

    def __init__(
        self,
        logged: Callable[[int], dict[str, float]] = lambda _: {},
        validation: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.logged = logged
        self.validation = validation or {}

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        loss = self.layer(torch.ones(1)).square().sum()
        self.log_dict({"train/loss": loss.detach()} | self.logged(batch_idx))
        return loss

    def validation_step(self, batch: TokenBatch, batch_idx: int) -> None:
        self.log_dict({"val/loss": 3.0} | self.validation, batch_size=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def rows(count: int) -> DataLoader[Any]:
    """`count` batches of 2 sequences of 8 tokens."""
    mask = torch.ones(2, 8, dtype=torch.bool)
    batch = TokenBatch(torch.zeros(2, 8, dtype=torch.long), mask, ~mask, mask, mask[:, 0])
    return DataLoader([batch] * count, batch_size=None)


@pytest.fixture
def scripted() -> type[Scripted]:
    return Scripted


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Trainer]:
    """Trains a module for some batches with callbacks, logging every 5 steps."""

    def run(module: LightningModule, *callbacks: Callback, batches: int = 12, **settings: Any) -> Trainer:
        given: dict[str, Any] = {
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "enable_progress_bar": any(
                isinstance(one, Callback) and "Progress" in type(one).__name__ for one in callbacks
            ),
            "max_epochs": 1,
            "log_every_n_steps": 5,
            "num_sanity_val_steps": 1,
            "default_root_dir": tmp_path,
        }
        trainer = Trainer(callbacks=list(callbacks), **given | settings)
        trainer.fit(module, rows(batches), rows(2))
        return trainer

    return run
