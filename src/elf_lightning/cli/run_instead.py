"""A Trainer in the place of one that trains, for commands that take all settings of `fit`."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer

from elf_lightning.data import ELFDataModule
from elf_lightning.training import ELFModule


class NonTrainingTrainer(Trainer):
    """A Trainer that takes all settings of `fit` and does something else with them."""

    def run_instead(self, model: ELFModule, datamodule: ELFDataModule) -> None:
        """What is done in place of training.

        Raises:
            NotImplementedError: here; a subclass defines it.
        """
        raise NotImplementedError

    def fit(  # type: ignore[override]
        self,
        model: ELFModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: ELFDataModule | None = None,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Do `run_instead`; see `Trainer.fit` for the arguments.

        Args:
            model: what would be trained.
            train_dataloaders: not used.
            val_dataloaders: not used.
            datamodule: what it would be trained on.
            ckpt_path: not used.
            weights_only: not used.
        """
        assert datamodule is not None
        self.run_instead(model, datamodule)
