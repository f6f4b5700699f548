"""Filters for Lightning messages that are of no use to users of this package."""

import logging
import threading
import warnings
from collections.abc import Callable
from functools import partial

from elf_lightning.terminal import print_messages_safely
from elf_lightning.whole_file import not_writable


def quiet_lightning() -> None:
    """Silence advertisements, the seed (it is among the settings) and warnings for Lightning's developers."""
    print_messages_safely()
    if getattr(threading.excepthook, "func", None) is not _unless_full:
        threading.excepthook = partial(_unless_full, threading.excepthook)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_tip)
    logging.getLogger("lightning.fabric.utilities.seed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
    # Commands that do not train need no checkpoint callback.
    warnings.filterwarnings("ignore", message=r"Be aware that when using `ckpt_path`")
    warnings.filterwarnings("ignore", message=r"Checkpoint directory .* exists and is not empty")
    # The oldest supported torch has no replacement.
    warnings.filterwarnings("ignore", message=r"`broadcast_buffers` is deprecated", category=FutureWarning)


def _is_no_tip(record: logging.LogRecord) -> bool:
    return "Tip:" not in record.getMessage()


def _unless_full(otherwise: Callable[..., object], failed: threading.ExceptHookArgs) -> None:
    """Print no traceback of TensorBoard's thread on a full disk: its logger says so in one line."""
    if failed.exc_value is None or not not_writable(failed.exc_value):
        otherwise(failed)
