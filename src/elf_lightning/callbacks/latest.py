"""Checkpoints of a run, with the state at its end."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class LatestModelCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, which also saves at the end of training.

    Lightning's own saves after validations, and would lose the last steps of a run that ends between two of
    them, by `max_time` or a `max_steps` that is not a multiple of `val_check_interval`. Takes the arguments
    of `lightning.pytorch.callbacks.ModelCheckpoint`.
    """

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves as after a validation, unless this step has been saved."""
        self.on_validation_end(trainer, pl_module)
        super().on_train_end(trainer, pl_module)
