"""Lightning's loggers, which do not stop training when their disk is full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn


class WhileRoom(Logger):
    """Goes on without a log that cannot be written, after one warning."""

    _told = False

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
        except OSError as error:
            if not self._told:
                rank_zero_warn(f"the log in '{self.save_dir}' cannot be written ({error}); training goes on")
            self._told = True


class TensorBoardWhileRoom(WhileRoom, TensorBoardLogger):
    """TensorBoard's files; arguments as of Lightning's `TensorBoardLogger`."""


class CSVWhileRoom(WhileRoom, CSVLogger):
    """A CSV file; arguments as of Lightning's `CSVLogger`."""
