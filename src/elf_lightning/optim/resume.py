"""A resumed run follows its own settings: from a checkpoint come averages and counters alone."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

RESTORED = ("params", "step")
"""What a saved parameter group is read for; everything else in it is a setting."""


def keep_settings(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    """The state to load, with the optimizer's own settings in it; a hook before `load_state_dict`.

    Groups that differ in number are left for the optimizer to refuse.
    """
    saved, own = state_dict["param_groups"], optimizer.param_groups
    if len(saved) != len(own):
        return state_dict
    settings = ({name: value for name, value in group.items() if name not in RESTORED} for group in own)
    groups = [old | new for old, new in zip(saved, settings, strict=True)]
    return state_dict | {"param_groups": groups}


class ResumedLR(LambdaLR):
    """Keeps only the number of steps in checkpoints; rates follow from it and the settings."""

    def state_dict(self) -> dict[str, Any]:
        """The number of steps."""
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Set the learning rates of that step; the optimizer's state comes first."""
        self.last_epoch = state_dict["last_epoch"]
        factors = [factor(self.last_epoch) for factor in self.lr_lambdas]
        self._last_lr = [base * factor for base, factor in zip(self.base_lrs, factors, strict=True)]
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate
