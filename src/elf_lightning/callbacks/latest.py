"""Checkpoints of a run: the state after each validation, and the one that it ends with."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class LatestModelCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, which saves at the end of training too.

    Lightning's own saves with validations. A run that ends between two of them, as `max_time` lets it, or a
    `max_steps` that is no multiple of `val_check_interval`, would lose what it did last. Takes the arguments
    of `lightning.pytorch.callbacks.ModelCheckpoint`.
    """

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save as after a validation, unless this very step is saved already."""
        self.on_validation_end(trainer, pl_module)
        super().on_train_end(trainer, pl_module)
