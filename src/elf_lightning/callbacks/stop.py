"""What ends a run in order: signals, and the time that it may take."""

import signal
import threading
import time
from functools import partial
from typing import Any

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.trainer.states import TrainerFn

from elf_lightning.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
PATIENCE_SECONDS = 5.0
"""A Ctrl-C so long after the first signal ends the command at once; earlier ones are the same request."""


class RunTimer(Timer):
    """`trainer.max_time` of this run alone; Lightning adds the time of the runs that it continues."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Leaves out the time of earlier runs."""


class StopOnSignal(Callback):
    """Ends training before its next batch after SIGTERM, SIGUSR1 or Ctrl-C, on all ranks at once.

    It raises `Stopped`, whereupon `LatestModelCheckpoint` saves the state. Other commands of the Trainer save
    nothing, and end at once. Lightning's own handlers, which lose that state, are replaced.
    """

    _received: int | None = None
    _since = 0.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forgets an earlier signal."""
        self._received = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signals over from Lightning, which restores the first handlers in the end."""
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                signal.signal(signum, partial(self._note, trainer))

    # Whatever begins first.
    on_sanity_check_start = on_validation_start = on_test_start = on_predict_start = on_train_start

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Ends training if any rank has received a signal."""
        stop = self._received is not None
        if trainer.world_size > 1:
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        if stop:
            raise self._stopped(trainer)

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """The same, within a validation."""
        if trainer.state.fn == TrainerFn.FITTING:
            self.on_train_batch_start(trainer, pl_module)

    def _note(self, trainer: Trainer, signum: int, _: Any) -> None:
        if self._received is None:
            self._received, self._since = signum, time.monotonic()
            if trainer.state.fn != TrainerFn.FITTING:
                if (launcher := trainer.strategy.launcher) is not None:
                    launcher.kill(signum)  # the other ranks, if this process has started them
                raise self._stopped(trainer)
        elif signum == signal.SIGINT and time.monotonic() - self._since > PATIENCE_SECONDS:
            raise KeyboardInterrupt

    def _stopped(self, trainer: Trainer) -> Stopped:
        stopped = Stopped(self._received or signal.SIGTERM)
        stopped.announced = trainer.is_global_zero
        if trainer.state.fn == TrainerFn.FITTING:
            stopped.remedy = "no checkpoint was saved"  # until one is
        environment = getattr(trainer.strategy, "cluster_environment", None)
        if isinstance(environment, LightningEnvironment) and trainer.local_rank > 0:
            stopped.code = 0  # if a rank that the first one has started fails, Lightning kills the first
        return stopped
