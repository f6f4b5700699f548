"""A run's model on the Hugging Face Hub, from its first checkpoint on."""

from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import CommitInfo, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from elf_lightning.checkpoints import load_model
from elf_lightning.checkpoints.locate import LAST
from elf_lightning.errors import UserError, first_line
from elf_lightning.generation.pretrained import write_folder
from elf_lightning.terminal import say

FAILURES: tuple[Any, ...] = (*HfHubHTTPError.__bases__, HFValidationError)
"""OSError, the HTTP library's errors, and that of an impossible name."""


class HubUpload(Callback):
    """Uploads the model of each new checkpoint to the Hub, where `ELF.from_pretrained` finds it.

    The averaged weights are written as a Hub folder and uploaded in the background, one commit at a time: a
    checkpoint that comes meanwhile waits, and is passed over if a later one follows. A failed upload is a
    warning, and training goes on; `fit` ends when the last checkpoint is uploaded. A Hub that cannot be
    reached or refuses is a `UserError` when training starts. Needs the link `last.ckpt` of
    `LatestModelCheckpoint`, and an account: `hf auth login`, or the variable HF_TOKEN.

    Args:
        repo_id: owner/name; made if it does not exist.
        private: who can read a new one: its owner alone, or everybody.
        revision: branch to upload to, made if it does not exist; the main one by default.
    """

    def __init__(self, repo_id: str, private: bool = True, revision: str | None = None) -> None:
        self.repo_id, self.private, self.revision = repo_id, private, revision
        self._api = HfApi()
        self._running: Future[CommitInfo] | None = None
        self._taken: Path | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes repository and branch, so that a run which could not upload is refused at once."""
        self._taken = _newest(trainer)
        if trainer.is_global_zero:
            try:
                self._api.create_repo(self.repo_id, private=self.private, exist_ok=True)
                if self.revision is not None:
                    self._api.create_branch(self.repo_id, branch=self.revision, exist_ok=True)
            except FAILURES as error:
                raise UserError(
                    f"HubUpload.repo_id {self.repo_id}: {first_line(error)}; check the name and the "
                    "connection, and log in with `hf auth login` or HF_TOKEN"
                ) from error

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Starts an upload if there is a new checkpoint and the one before is through."""
        if trainer.is_global_zero and (self._running is None or self._running.done()):
            self._finish()
            if (file := _newest(trainer)) is not None and file != self._taken:
                self._taken, self._running = file, self._api.run_as_future(self._upload, file)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Uploads the last checkpoint, and waits until it is there."""
        self._finish()
        self.on_train_batch_start(trainer, pl_module)
        self._finish()

    def _finish(self) -> None:
        if self._running is not None:
            if (error := self._running.exception()) is not None:
                rank_zero_warn(f"{self._taken} is not uploaded to the Hub ({first_line(error)})")
            else:
                say(f"uploaded {self._running.result().commit_url}")
            self._running = None

    def _upload(self, file: Path) -> CommitInfo:
        """Runs in a thread, and so draws no random numbers."""
        bundle = load_model(file)
        with TemporaryDirectory() as folder:
            write_folder(bundle, folder)
            upload = partial(self._api.upload_folder, repo_id=self.repo_id, revision=self.revision)
            return upload(folder_path=folder, commit_message=f"Step {bundle.config.step:,}")


def _newest(trainer: Trainer) -> Path | None:
    """The run's newest checkpoint, of which `last.ckpt` is a link."""
    folder = getattr(trainer.checkpoint_callback, "dirpath", None)
    with suppress(OSError):
        return None if folder is None else Path(folder, LAST).resolve(strict=True)
    return None
