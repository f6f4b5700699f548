"""Optimizer steps whose gradient is measured, and that stop or are skipped when it is not finite."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, cast, get_args

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from elf_lightning.checkpoints.locate import newest_checkpoint
from elf_lightning.errors import UserError

NonFinite = Literal["stop", "skip"]
MAX_CONSECUTIVE_SKIPS = 100


class GuardedModule(LightningModule):
    """Automatic optimization that logs each step's gradient norm and learning rate, and guards the weights.

    The first micro-batch whose loss or gradient is not finite is recorded on the device, and read every
    `log_every_n_steps` steps and before every checkpoint. So no step waits for the device, and no
    checkpoint is ever written after a bad step.

    Under fp16, the precision plugin's scaler handles overflowing gradients: it lowers its scale and skips
    the step; only losses are guarded.

    Args:
        non_finite: `stop` ends training at the first bad step. `skip` skips bad steps on all ranks: weights,
            optimizer state and average stay unchanged, the schedule and `global_step` advance. It waits for
            the device in every step, and gives up after 100 bad steps in a row.

    Raises:
        UserError: another value of `non_finite`.
    """

    def __init__(self, non_finite: NonFinite = "stop") -> None:
        super().__init__()
        if non_finite not in get_args(NonFinite):
            raise UserError(f"model.non_finite is {non_finite!r}; choose {' or '.join(get_args(NonFinite))}")
        self.non_finite = non_finite
        self.skipped_steps = 0
        self.step_skipped = False  # the latest optimizer step; read by the average
        self._skipped_together = 0
        self._first_bad: Tensor | None = None  # (3,) step, epoch and batch; -1 for none
        self._gradient_norm: Tensor | None = None

    def on_fit_start(self) -> None:
        """Start without any bad step."""
        self._first_bad = torch.full((3,), -1, device=self.device)
        self.step_skipped, self._skipped_together = False, 0

    def on_before_backward(self, loss: Tensor) -> None:
        """Record a loss that is not finite."""
        self._note(~loss.detach().isfinite())

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip, and log the gradient's norm before that; both from one pass over the gradients."""
        norm = _norm(optimizer) if self._gradient_norm is None else self._gradient_norm
        self._gradient_norm = None
        if not self._scaled:
            self._note(~norm.isfinite())
        if gradient_clip_algorithm == "value":
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_val:
            clip_grads_with_norm_(_parameters(optimizer), gradient_clip_val, norm)
        # On the host: a number that Lightning has to bring to the device makes the host wait for it.
        rate = torch.tensor(optimizer.param_groups[0]["lr"])
        self.log_dict({"train/gradient_norm": norm, "train/learning_rate": rate})

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: torch.optim.Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Step; with `skip`, check loss and gradient first."""
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
            self._skipped_together = 0
            super().optimizer_step(epoch, batch_idx, optimizer, lambda: loss)
        self.log("train/skipped_steps", torch.tensor(float(self.skipped_steps)))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Check for bad steps every `log_every_n_steps` steps.

        Raises:
            UserError: if there was one, and they are not to be skipped.
        """
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and self.global_step % every == 0:
            self._check()

    def on_train_end(self) -> None:
        """Check for bad steps once more."""
        self._check()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to save weights after a bad step."""
        self._check()
        checkpoint["skipped_steps"] = self.skipped_steps

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue to count skipped steps."""
        self.skipped_steps = checkpoint.get("skipped_steps", 0)

    @property
    def _scaled(self) -> bool:
        """Whether the precision plugin scales losses, and so handles overflowing gradients."""
        return getattr(self.trainer.precision_plugin, "scaler", None) is not None

    def _note(self, bad: Tensor) -> None:
        """Record the first bad micro-batch, without waiting to know whether this one is."""
        assert self._first_bad is not None
        place = (self.global_step, self.current_epoch, self.trainer.fit_loop.batch_idx)
        first = bad & (self._first_bad[0] < 0)
        for slot, number in zip(self._first_bad.unbind(), place, strict=True):
            slot.masked_fill_(first, number)

    def _check(self) -> None:
        if self._first_bad is None or self.non_finite == "skip":
            return
        step, epoch, batch = self._first_bad.tolist()
        if step >= 0:
            raise UserError(
                f"the loss or its gradient is not finite in step {step} (epoch {epoch}, batch {batch}); "
                f"{self._last_good()}. Lower the learning rate or lengthen the warm-up, or skip such steps "
                "with model.non_finite skip"
            )

    def _bad_on_any_rank(self) -> bool:
        assert self._first_bad is not None
        bad = bool((cast(Tensor, self.all_gather(self._first_bad[0])) >= 0).any())
        self._first_bad.fill_(-1)
        return bad

    def _skip(self, batch_idx: int) -> None:
        self.skipped_steps += 1
        self._skipped_together += 1
        where = f"step {self.global_step} (epoch {self.current_epoch}, batch {batch_idx})"
        rank_zero_warn(f"{where} skipped: its loss or gradient is not finite; {self.skipped_steps} so far")
        if self._skipped_together == MAX_CONSECUTIVE_SKIPS:
            raise UserError(
                f"model.non_finite skip: {MAX_CONSECUTIVE_SKIPS} steps in a row, up to {where}, have a loss "
                f"or gradient that is not finite; {self._last_good()}"
            )

    def _last_good(self) -> str:
        """Where to resume from: the newest file in the folders of the checkpoint callbacks."""
        for saver in self.trainer.checkpoint_callbacks:
            if isinstance(saver, ModelCheckpoint) and saver.dirpath:
                with suppress(UserError):
                    return f"the last good checkpoint is {newest_checkpoint(saver.dirpath)}"
        return "no checkpoint was saved before it"


def _parameters(optimizer: torch.optim.Optimizer | LightningOptimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _norm(optimizer: torch.optim.Optimizer | LightningOptimizer) -> Tensor:
    """The global norm of all gradients, ()."""
    return get_total_norm([p.grad for p in _parameters(optimizer) if p.grad is not None])
