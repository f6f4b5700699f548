"""What Lightning says that is of no use to somebody who trains a model with this package."""

from __future__ import annotations

import logging
import warnings


def quiet_lightning() -> None:
    """Leave out advertisements of other products, and warnings that only Lightning's authors can act on."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_tip)
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")


def _is_no_tip(record: logging.LogRecord) -> bool:
    return "Tip:" not in record.getMessage()
