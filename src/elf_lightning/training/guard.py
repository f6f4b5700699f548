"""Optimizer steps that are stopped or skipped if the loss or gradient is not finite."""

from collections.abc import Callable
from typing import Any, Literal, cast, get_args

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from elf_lightning.checkpoints.locate import last_good
from elf_lightning.errors import UserError

NonFinite = Literal["stop", "skip"]
MAX_CONSECUTIVE_SKIPS = 100


class GuardedModule(LightningModule):
    """Automatic optimization that logs gradient norm and learning rate, and guards against non-finite steps.

    The first micro-batch whose loss or gradient is not finite is recorded on the device, and read every
    `log_every_n_steps` steps and before every checkpoint. So steps do not synchronise with the device, and
    no checkpoint is written after a bad step.

    Under fp16, only losses are guarded: the precision plugin's gradient scaler handles overflows.

    `non_finite="stop"` ends training after a bad step. `skip` skips bad steps on all ranks: weights,
    optimizer state and average stay unchanged, while the schedule and `global_step` advance. It
    synchronises with the device in every step, and gives up after 100 consecutive bad steps.
    """

    def __init__(self, non_finite: NonFinite = "stop") -> None:
        super().__init__()
        if non_finite not in get_args(NonFinite):
            raise UserError(f"model.non_finite is {non_finite!r}; choose {' or '.join(get_args(NonFinite))}")
        self.non_finite = non_finite
        self.skipped_steps = 0
        self.step_skipped = False  # the latest step; read by EMA
        self._consecutive_skips = 0
        self._first_bad: Tensor | None = None  # (3,) step, epoch and batch; -1 for none
        self._gradient_norm: Tensor | None = None

    def on_fit_start(self) -> None:
        """Reset the record of bad steps."""
        self._first_bad = None
        self.step_skipped, self._consecutive_skips = False, 0

    def on_before_backward(self, loss: Tensor) -> None:
        """Record a loss that is not finite."""
        self._note(~loss.detach().isfinite())

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip gradients, and log their norm before clipping, from a single pass."""
        norm = _norm(optimizer) if self._gradient_norm is None else self._gradient_norm
        self._gradient_norm = None
        if not self._scaled:
            self._note(~norm.isfinite())
        if gradient_clip_algorithm == "value":
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_val:
            clip_grads_with_norm_(_parameters(optimizer), gradient_clip_val, norm)
        # A tensor on the host: for a plain number, Lightning would synchronise with the device.
        rate = torch.tensor(optimizer.param_groups[0]["lr"])
        self.log_dict({"train/gradient_norm": norm, "train/learning_rate": rate})

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Take a step; with `skip`, check loss and gradient first."""
        if self.non_finite == "stop" or optimizer_closure is None:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            return
        loss = optimizer_closure()
        if not self._scaled:
            self._gradient_norm = _norm(optimizer)
            self._note(~self._gradient_norm.isfinite())
        self.step_skipped = self._bad_on_any_rank()
        if self.step_skipped:
            self._skip(batch_idx)
        else:
            self._consecutive_skips = 0
            super().optimizer_step(epoch, batch_idx, optimizer, lambda: loss)
        self.log("train/skipped_steps", torch.tensor(float(self.skipped_steps)))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Check for bad steps every `log_every_n_steps` steps."""
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and self.global_step % every == 0:
            self._check()

    def on_train_end(self) -> None:
        """Check for bad steps a last time."""
        self._check()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to save after a bad step, and save the number of skipped steps."""
        self._check()
        checkpoint["skipped_steps"] = self.skipped_steps

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the number of skipped steps."""
        self.skipped_steps = checkpoint.get("skipped_steps", 0)

    @property
    def _scaled(self) -> bool:
        """Whether the precision plugin scales losses, and so handles overflows."""
        return getattr(self.trainer.precision_plugin, "scaler", None) is not None

    def _note(self, bad: Tensor) -> None:
        """Record this micro-batch if it is the first bad one, without synchronising with the device."""
        if self._first_bad is None:  # here, since BatchSizeFinder trains before `on_fit_start`
            self._first_bad = torch.full((3,), -1, device=self.device)
        position = (self.global_step, self.current_epoch, self.trainer.fit_loop.batch_idx)
        first = bad & (self._first_bad[0] < 0)
        for slot, number in zip(self._first_bad.unbind(), position, strict=True):
            slot.masked_fill_(first, number)

    def _check(self) -> None:
        if self._first_bad is None or self.non_finite == "skip":
            return
        step, epoch, batch = self._first_bad.tolist()
        if step >= 0:
            raise UserError(
                f"the loss or its gradient is not finite in step {step} (epoch {epoch}, batch {batch}); "
                f"{self._last_good()}. Lower the learning rate, lengthen the warm-up, or skip such steps "
                "with model.non_finite skip"
            )

    def _bad_on_any_rank(self) -> bool:
        assert self._first_bad is not None  # set by `on_before_backward`
        bad = bool((cast(Tensor, self.all_gather(self._first_bad[0])) >= 0).any())
        self._first_bad.fill_(-1)
        return bad

    def _skip(self, batch_idx: int) -> None:
        self.skipped_steps += 1
        self._consecutive_skips += 1
        where = f"step {self.global_step} (epoch {self.current_epoch}, batch {batch_idx})"
        rank_zero_warn(f"{where} skipped: its loss or gradient is not finite; {self.skipped_steps} so far")
        if self._consecutive_skips == MAX_CONSECUTIVE_SKIPS:
            raise UserError(
                f"model.non_finite skip: the loss or gradient was not finite in {MAX_CONSECUTIVE_SKIPS} "
                f"consecutive steps up to {where}; {self._last_good()}; lower the learning rate"
            )

    def _last_good(self) -> str:
        """The newest file of the checkpoint callbacks, for messages."""
        savers = [one for one in self.trainer.checkpoint_callbacks if isinstance(one, ModelCheckpoint)]
        return last_good(next((one.dirpath for one in savers if one.dirpath), None))


def _parameters(optimizer: Optimizer | LightningOptimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _norm(optimizer: Optimizer | LightningOptimizer) -> Tensor:
    return get_total_norm([p.grad for p in _parameters(optimizer) if p.grad is not None])
