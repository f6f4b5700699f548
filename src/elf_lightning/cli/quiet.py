"""What Lightning says that is of no use to somebody who trains a model with this package."""

from __future__ import annotations

import logging
import warnings


def quiet_lightning() -> None:
    """Leave out advertisements, the seed, which settings name, and warnings for Lightning's authors alone."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_tip)
    logging.getLogger("lightning.fabric.utilities.seed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
    # A command that does not train has no use for the callback that saves.
    warnings.filterwarnings("ignore", message=r"Be aware that when using `ckpt_path`")
    # Its successor is not in the oldest torch that is supported.
    warnings.filterwarnings("ignore", message=r"`broadcast_buffers` is deprecated", category=FutureWarning)


def _is_no_tip(record: logging.LogRecord) -> bool:
    return "Tip:" not in record.getMessage()
