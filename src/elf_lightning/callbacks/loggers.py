"""Lightning's loggers, which do not stop training when their disk is full."""

from collections.abc import Callable
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn

from elf_lightning.whole_file import system_error


class _Nothing:
    """Takes any call of any method."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self


def _if_possible(name: str) -> Any:
    return lambda self, *args, **kwargs: self._try(lambda log: getattr(log, name)(*args, **kwargs))


class WhileRoom(Logger):
    """Goes on without a log that cannot be written, after one warning."""

    _told = False
    log_hyperparams, log_metrics = _if_possible("log_hyperparams"), _if_possible("log_metrics")
    save, finalize = _if_possible("save"), _if_possible("finalize")

    @property
    def experiment(self) -> Any:
        """What writes; without room for its first file, one that does nothing."""
        return self._try(lambda log: log.experiment)

    def _try(self, action: Callable[[Any], Any]) -> Any:
        try:
            return action(super())
        except Exception as error:  # Lightning takes whatever happens in TensorBoard for a wrong value
            if (cause := system_error(error)) is None:
                raise
            if not self._told:
                rank_zero_warn(f"the log in '{self.save_dir}' cannot be written ({cause}); training goes on")
            self._told = True
            return _Nothing()


class TensorBoardWhileRoom(WhileRoom, TensorBoardLogger):
    """TensorBoard's files; arguments as of Lightning's `TensorBoardLogger`."""


class CSVWhileRoom(WhileRoom, CSVLogger):
    """A CSV file; arguments as of Lightning's `CSVLogger`."""
