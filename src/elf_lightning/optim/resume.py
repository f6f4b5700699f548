"""Resuming with changed settings: a checkpoint restores averages and counters, not settings."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

RESTORED = ("params", "step")
"""The entries restored from a saved parameter group; all others are settings."""


def keep_settings(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    """The state to load with the optimizer's own settings; a `load_state_dict` pre-hook.

    A different number of groups is left for the optimizer to refuse.
    """
    saved, own = state_dict["param_groups"], optimizer.param_groups
    if len(saved) != len(own):
        return state_dict
    settings = ({name: value for name, value in group.items() if name not in RESTORED} for group in own)
    groups = [old | new for old, new in zip(saved, settings, strict=True)]
    return state_dict | {"param_groups": groups}


class ResumedLR(LambdaLR):
    """Saves only the step count in checkpoints; the learning rates follow from it and the settings."""

    def state_dict(self) -> dict[str, Any]:
        """The step count."""
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Sets the learning rates of that step; the optimizer's state must be loaded first."""
        self.last_epoch = state_dict["last_epoch"]
        factors = [factor(self.last_epoch) for factor in self.lr_lambdas]
        self._last_lr = [base * factor for base, factor in zip(self.base_lrs, factors, strict=True)]
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate
