"""`elf plan`: what `elf fit` with the same settings would do, without doing it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Trainer

from elf_lightning.callbacks.run_plan import plan_run
from elf_lightning.callbacks.run_summary import print_plan
from elf_lightning.cli.trainer import run_trainer
from elf_lightning.data import ELFDataModule
from elf_lightning.modules import ELFModule


class PlanningTrainer(Trainer):
    """A Trainer that says what it would do."""

    def fit(  # type: ignore[override]
        self,
        model: ELFModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: ELFDataModule | None = None,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Print the plan of a run; see `Trainer.fit` for the arguments.

        Args:
            model: to be trained.
            train_dataloaders: not used.
            val_dataloaders: not used.
            datamodule: to be trained on; its rows are prepared if they are not there, and not embedded.
            ckpt_path: not used.
            weights_only: not used.
        """
        assert datamodule is not None
        print_plan(plan_run(model, datamodule, self))


def run(arguments: Sequence[str]) -> None:
    """Print the plan of `elf fit` with these options, such as `["plan", "--config", "conf/elf_105m.yaml"]`.

    Raises:
        UserError: for settings that cannot be used.
    """
    run_trainer(["fit", *arguments[1:]], PlanningTrainer)
