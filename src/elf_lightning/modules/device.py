"""Where a model runs."""

from __future__ import annotations

import torch

from elf_lightning.errors import UserError


def usable_device(name: torch.device | str) -> torch.device:
    """The device called `name`.

    Raises:
        UserError: if it is not there.
    """
    try:
        probe = torch.zeros((), device=name)
        probe.item()
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without the device
        reason = str(error).splitlines()[0]
        raise UserError(
            f"device '{name}' cannot be used ({reason}); give cpu, or one that is there"
        ) from error
    return probe.device
