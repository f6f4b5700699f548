"""The learning rate: scaling by the batch size, warm-up and decay."""

from dataclasses import dataclass
from math import cos, inf, pi
from typing import Any, Literal, get_args

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from elf_lightning.errors import UserError

Decay = Literal["constant", "cosine"]


def scaled_learning_rate(base_learning_rate: float, global_batch_size: int) -> float:
    """`base_learning_rate * global_batch_size / 256`: 0.001 becomes 0.002 at 512 sequences."""
    if global_batch_size < 1:
        raise UserError(f"global_batch_size={global_batch_size}: give at least 1 sequence per step")
    return base_learning_rate * global_batch_size / 256


def learning_rate_factor(step: int, warmup_steps: int, total_steps: float, decay: Decay) -> float:
    """The factor of the learning rate in step `step`, counted from 0 as in optax.

    Warm-up is linear from 0: the first step has factor 0, and step `warmup_steps` is the first at the full
    rate. Then the rate stays constant, or follows half a cosine that would reach 0 in step `total_steps`, the
    first one after the run.
    """
    if step < warmup_steps:
        return step / warmup_steps
    if decay == "constant" or step == warmup_steps:
        return 1.0
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1.0 + cos(pi * min(1.0, progress)))


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up from 0, then a constant learning rate or a cosine decay to 0.

    Args:
        warmup_steps: optimizer steps of warm-up.
        warmup_epochs: the same in epochs, instead; 0.5 in the paper. Without either there is no warm-up.
        decay: after the warm-up, `constant` or `cosine`.
    """

    warmup_steps: int = 0
    warmup_epochs: float = 0.0
    decay: Decay = "constant"

    def __post_init__(self) -> None:
        for name in ("warmup_steps", "warmup_epochs"):
            value = getattr(self, name)
            if not 0 <= value < inf:
                raise UserError(f"{name}={value}: give 0 (no warm-up) or more")
        if self.warmup_steps and self.warmup_epochs:
            raise UserError(
                f"warmup_steps={self.warmup_steps}, warmup_epochs={self.warmup_epochs}: give one, not both"
            )
        if self.decay not in get_args(Decay):
            raise UserError(f"decay={self.decay!r}: choose one of {', '.join(get_args(Decay))}")

    def resolve_warmup(self, steps_per_epoch: int, total_steps: float, trial: bool = False) -> int:
        """The warm-up in optimizer steps, rounded down; in a trial run of a few steps, at most as long as it.

        Otherwise a longer one is a `UserError`, as is a cosine decay without a number of steps.
        """
        if self.decay == "cosine" and total_steps == inf:
            raise UserError(
                "decay='cosine': needs the length of the run; set trainer.max_epochs or trainer.max_steps"
            )
        warmup = self.warmup_steps or int(self.warmup_epochs * steps_per_epoch)
        if trial:
            return int(min(warmup, total_steps))
        if warmup > total_steps:
            given = f"warmup_steps={warmup}" if self.warmup_steps else f"warmup_epochs={self.warmup_epochs}"
            raise UserError(
                f"{given}: a warm-up of {warmup} steps is longer than the run of {total_steps} steps; "
                "shorten it or train longer"
            )
        return warmup

    def build(
        self, optimizer: Optimizer, total_steps: float, steps_per_epoch: int, trial: bool = False
    ) -> LambdaLR:
        """The scheduler, to be stepped after every optimizer step; errors and `trial` as in `resolve_warmup`.

        Args:
            optimizer: its groups' learning rates are the peak rates.
            total_steps: optimizer steps of the whole run; `inf` if only time ends it.
            steps_per_epoch: optimizer steps per epoch.
            trial: whether it is only a trial run, as `fast_dev_run` is.
        """
        warmup = self.resolve_warmup(steps_per_epoch, total_steps, trial)
        return _ResumedLR(optimizer, lambda step: learning_rate_factor(step, warmup, total_steps, self.decay))


class _ResumedLR(LambdaLR):
    """Saves only the step count in checkpoints; the learning rates follow from it and the settings."""

    def state_dict(self) -> dict[str, Any]:
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Sets the learning rates of that step; the optimizer's state must be loaded first."""
        self.last_epoch = state_dict["last_epoch"]
        factors = [factor(self.last_epoch) for factor in self.lr_lambdas]
        self._last_lr = [base * factor for base, factor in zip(self.base_lrs, factors, strict=True)]
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate
