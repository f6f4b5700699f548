"""Where mixed precision must not reach."""

from __future__ import annotations

import torch
from torch import Tensor


def full_precision(like: Tensor) -> torch.autocast:
    """A context on the device of `like` in which autocast is off: input projections and heads."""
    return torch.autocast(like.device.type, enabled=False)
