"""Device and precision of a model."""

from __future__ import annotations

import torch

from elf_lightning.errors import UserError, first_line
from elf_lightning.precision import PRECISIONS

BFLOAT16 = (8, 0)
"""Minimum compute capability for bfloat16 arithmetic."""


def usable_device(name: torch.device | str) -> torch.device:
    """The device called `name`.

    Raises:
        UserError: if it is not available.
    """
    try:
        probe = torch.zeros((), device=name)
        probe.item()
    except (RuntimeError, AssertionError) as error:  # AssertionError if torch lacks the device
        raise UserError(
            f"device '{name}' cannot be used ({first_line(error)}); use cpu or an available device"
        ) from error
    return probe.device


def usable_precision(name: str | None, device: torch.device) -> str:
    """The precision called `name`; by default bfloat16 on GPUs with bfloat16 arithmetic, otherwise float32.

    Args:
        name: one of `PRECISIONS`, or None.
        device: from `usable_device`.

    Raises:
        UserError: for an unknown name.
    """
    if name is None:
        fast = device.type == "cuda" and torch.cuda.get_device_capability(device) >= BFLOAT16
        return "bf16-mixed" if fast else "32-true"
    if name not in PRECISIONS:
        raise UserError(f"precision '{name}' is unknown; choose from {', '.join(PRECISIONS)}")
    return name


def autocast_context(precision: str, device: torch.device) -> torch.autocast:
    """The autocast context of one of `PRECISIONS`."""
    dtype = PRECISIONS[precision]
    return torch.autocast(device.type, getattr(torch, dtype) if dtype else None, enabled=dtype is not None)
