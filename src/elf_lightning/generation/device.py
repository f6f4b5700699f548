"""Where a model runs, and in which precision."""

from __future__ import annotations

import torch

from elf_lightning.errors import UserError, first_line
from elf_lightning.precision import PRECISIONS

BFLOAT16 = (8, 0)
"""Compute capability of the first GPUs with bfloat16 arithmetic."""


def usable_device(name: torch.device | str) -> torch.device:
    """The device called `name`.

    Raises:
        UserError: if it is not available.
    """
    try:
        probe = torch.zeros((), device=name)
        probe.item()
    except (RuntimeError, AssertionError) as error:  # the latter if torch was built without the device
        raise UserError(
            f"device '{name}' cannot be used ({first_line(error)}); give cpu, or an available one"
        ) from error
    return probe.device


def usable_precision(name: str | None, device: torch.device) -> str:
    """The precision called `name`; without a name, bfloat16 on a GPU with bfloat16 arithmetic, else float32.

    Args:
        name: of `PRECISIONS`.
        device: from `usable_device`.

    Raises:
        UserError: if it is not known.
    """
    if name is None:
        fast = device.type == "cuda" and torch.cuda.get_device_capability(device) >= BFLOAT16
        return "bf16-mixed" if fast else "32-true"
    if name not in PRECISIONS:
        raise UserError(f"precision '{name}' is not known; choose one of {', '.join(PRECISIONS)}")
    return name


def autocast_context(precision: str, device: torch.device) -> torch.autocast:
    """A context in which a network computes in one of `PRECISIONS`."""
    dtype = PRECISIONS[precision]
    return torch.autocast(device.type, getattr(torch, dtype) if dtype else None, enabled=dtype is not None)
