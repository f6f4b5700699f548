"""Checkpoints of a run: whole files, a link to the newest, and the state at the end."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from elf_lightning.callbacks.ema import Content
from elf_lightning.checkpoints import locate
from elf_lightning.checkpoints.torch_file import check_torch_file, save_torch_file
from elf_lightning.errors import Stopped, UserError, errors_about
from elf_lightning.whole_file import remove_unfinished


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes local checkpoints whole or not at all, and loads none that has changed since.

    Lightning's own goes through a file in `$TMPDIR`, from which moving to another file system can be
    interrupted.

    Attributes:
        linked: folders in which the link `last.ckpt` leads to the latest checkpoint that training can resume
            from; those of the checkpoint callbacks, if one of them is a `LatestModelCheckpoint`.
    """

    def __init__(self) -> None:
        self.linked: set[Path] = set()

    def save_checkpoint(self, checkpoint: Content, path: Any, storage_options: Any = None) -> None:
        """Write `checkpoint`; if that fails, a `UserError` names the last good one."""
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        try:
            save_torch_file(checkpoint, path)
            if path.parent.resolve() in self.linked and "optimizer_states" in checkpoint:
                locate.link_newest(path)
        except UserError as error:
            raise UserError(f"checkpoint {error}; {locate.last_good(path.parent)}") from error

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a checkpoint; a damaged file is a `UserError`."""
        if Path(path).is_file():
            with errors_about(f"checkpoint '{path}'"):
                check_torch_file(Path(path))
        return super().load_checkpoint(path, *args, **kwargs)


class LatestModelCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, which also saves at the end of training, and if a signal ends it.

    Lightning's own saves after validations, and would lose the last steps of a run that ends between two of
    them, by `max_time` or a `max_steps` that is not a multiple of `val_check_interval`. Takes the arguments
    of `lightning.pytorch.callbacks.ModelCheckpoint`.
    """

    _fit, _step = 1, -1

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts this `fit` among those of the folder, and deletes what killed ones have left of a file."""
        self._fit, self._step = 1, -1
        if not trainer.is_global_zero:
            return
        places = [getattr(one, "dirpath", None) for one in trainer.checkpoint_callbacks]
        folders = {Path(place).resolve() for place in places if place}
        for folder in folders:
            remove_unfinished(folder)
        io = trainer.strategy.checkpoint_io
        if isinstance(whole := getattr(io, "inner", io), WholeCheckpointIO):
            whole.linked = folders
        with suppress(UserError):
            newest = locate.newest_checkpoint(self.dirpath or "")
            self._fit += locate.fit_and_step(newest)[0]
            if newest.parent.resolve() in getattr(whole, "linked", ()):
                locate.link_newest(newest)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes over its own file of the run that it resumes, also in a folder that has been moved."""
        super().on_train_start(trainer, pl_module)
        resumed, folder = Path(trainer.ckpt_path or ""), Path(self.dirpath or "")
        own = folder / Path(self.best_model_path).name
        if self.monitor is None and own.is_file() and resumed.parent.resolve() == folder.resolve():
            self.best_model_path = str(own)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: Content) -> None:
        """Notes which `fit` saves; called for checkpoints of all callbacks."""
        checkpoint[locate.FIT] = self._fit
        self._step = trainer.global_step

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves as after a validation, unless this step has been saved."""
        if trainer.fast_dev_run or trainer.sanity_checking:  # type: ignore[attr-defined]
            return
        self.on_validation_end(trainer, pl_module)
        if trainer.global_step not in (0, self._step):  # other arguments may save less often
            trainer.save_checkpoint(Path(self.dirpath or "") / f"step-{trainer.global_step}.ckpt")
        super().on_train_end(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Saves as at the end of training if a signal has ended it."""
        super().on_exception(trainer, pl_module, exception)
        if isinstance(exception, Stopped):
            self.on_train_end(trainer, pl_module)
            last, here = Path(self.dirpath or "") / locate.LAST, Path.cwd()
            if last.is_file() and (self._step >= 0 or trainer.ckpt_path):
                place = last.relative_to(here) if last.is_relative_to(here) else last
                exception.remedy = f"continue with --ckpt_path {place}"
