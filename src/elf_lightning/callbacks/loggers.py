"""Lightning's loggers, which do not stop training when their disk is full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn

from elf_lightning.whole_file import system_error


class _Nothing:
    """Takes any call of any method."""

    def __getattr__(self, name: str) -> _Nothing:
        return self

    def __call__(self, *_: Any, **__: Any) -> _Nothing:
        return self


class WhileRoom(Logger):
    """Goes on without a log that cannot be written, after one warning."""

    _told = False

    @property
    def experiment(self) -> Any:
        """What writes; without room for its first file, one that does nothing."""
        with self._if_possible():
            return super().experiment  # type: ignore[misc]
        return _Nothing()  # type: ignore[unreachable]

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Log settings, if possible."""
        with self._if_possible():
            super().log_hyperparams(*args, **kwargs)  # type: ignore[safe-super]

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        """Log numbers, if possible."""
        with self._if_possible():
            super().log_metrics(*args, **kwargs)  # type: ignore[safe-super]

    def save(self) -> None:
        """Write what is logged, if possible."""
        with self._if_possible():
            super().save()

    def finalize(self, status: str) -> None:
        """Write the rest and close, if possible."""
        with self._if_possible():
            super().finalize(status)

    @contextmanager
    def _if_possible(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Lightning takes whatever happens in TensorBoard for a wrong value
            if (cause := system_error(error)) is None:
                raise
            if not self._told:
                rank_zero_warn(f"the log in '{self.save_dir}' cannot be written ({cause}); training goes on")
            self._told = True


class TensorBoardWhileRoom(WhileRoom, TensorBoardLogger):
    """TensorBoard's files; arguments as of Lightning's `TensorBoardLogger`."""


class CSVWhileRoom(WhileRoom, CSVLogger):
    """A CSV file; arguments as of Lightning's `CSVLogger`."""
