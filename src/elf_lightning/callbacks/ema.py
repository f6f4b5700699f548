"""Exponential moving average of the weights, which everything but training sees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from elf_lightning.callbacks.averaged_checkpoint import AveragedCheckpointIO
from elf_lightning.errors import UserError


class EMA(WeightAveraging):
    """Averages the weights after every optimizer step; validation, samples and checkpoints use the average.

    After the (n+1)-th step, n > 0: `average = d * average + (1 - d) * weights` with
    `d = min(decay, (1 + n) / (10 + n))`, so that the average of a short run is not its own first weights. The
    first step's weights start the average (arXiv 2605.10938 trains with decay 0.9999).

    What Lightning's `WeightAveraging` does, this keeps: the averaged copy, and the form of the checkpoint
    (`state_dict` averaged, `current_model_state` raw, `averaging_state`). What it changes:

    - The average is shown by copying it over the module's weights, with the raw ones put aside until they
      are copied back; nothing is ever exchanged. So wherever an exception or Ctrl-C strikes, it is known
      which is which, and every checkpoint holds both rightly.
    - All validation hooks see the average, of the module and of all callbacks: this callback runs first, and
      brings the raw weights back when training goes on.
    - Before the first update the module's own weights count as the average.
    - When `fit` has ended, in whatever way, the module holds the average and the raw weights are kept for
      checkpoints. `test(ckpt_path=...)` and the like keep the averaged weights they load.
    - A checkpoint with `save_weights_only` holds averaged weights, as every other.

    Each new `fit` without `ckpt_path` starts a new average, from the weights the module holds.

    Args:
        decay: in [0, 1); 0 means no averaging.
        device: where the averaged copy lives, `"cpu"` to spare device memory at the price of a copy to the
            host in every step; the module's device if left out.

    Raises:
        UserError: a decay outside [0, 1), or an unknown device.
    """

    _average_model: AveragedModel | None

    def __init__(self, decay: float = 0.9999, device: str | None = None) -> None:
        if not 0 <= decay < 1:
            raise UserError(
                f"EMA decay={decay}: give a number from 0 up to, not including, 1, such as 0.9999"
            )
        try:
            torch.device(device or "cpu")
        except RuntimeError as error:
            raise UserError(f"EMA device={device!r}: no such device; leave it out or give 'cpu'") from error
        super().__init__(device=device, use_buffers=False)
        self.decay = decay
        self.device = device
        self._raw: dict[str, Tensor] | None = None  # set exactly while the module shows the average

    @property
    def n_averaged(self) -> int:
        """Number of optimizer steps in the average."""
        return 0 if self._average_model is None else int(self._average_model.n_averaged)

    @contextmanager
    def average_weights(self, pl_module: LightningModule) -> Iterator[None]:
        """Inside the block `pl_module` has averaged weights; after it, those it had before."""
        already_shown = self._raw is not None
        self._show_average(pl_module)
        try:
            yield
        finally:
            if not already_shown:
                self._show_raw(pl_module)

    def averaged_state(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """A state dict of the module with averaged parameters in place of what it holds."""
        if self.n_averaged == 0:
            return state_dict
        return _replaced(state_dict, self._averages())

    # Hooks, in the order Lightning calls them

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Makes the averaged copy, goes first among callbacks, sees to checkpoints of weights alone."""
        super().setup(trainer, pl_module, stage)
        others = [callback for callback in trainer.callbacks if callback is not self]  # type: ignore[attr-defined]
        # A new list: Lightning is iterating over the old one.
        trainer.callbacks = [self, *others]  # type: ignore[attr-defined]
        if stage != "fit":
            return
        assert self._average_model is not None
        # On the host, so that asking whether there is an average yet never waits for the device.
        self._average_model.n_averaged = self._average_model.n_averaged.cpu()
        self._raw = None
        if not isinstance(trainer.strategy.checkpoint_io, AveragedCheckpointIO):
            trainer.strategy.checkpoint_io = AveragedCheckpointIO(
                trainer.strategy.checkpoint_io, self.averaged_state
            )

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Takes both sets of weights; a checkpoint written without EMA starts a new average."""
        if self._average_model is None:
            return  # a fresh `test`, `predict` or `validate`: the module has the average from `state_dict`
        strict = pl_module.strict_loading
        self._average_model.module.load_state_dict(checkpoint["state_dict"], strict=strict)
        self._average_model.n_averaged.copy_(checkpoint.get("averaging_state", {}).get("n_averaged", 0))
        raw = checkpoint.get("current_model_state", checkpoint["state_dict"])
        if trainer.state.fn == TrainerFn.FITTING:
            pl_module.load_state_dict(raw, strict=strict)
        else:
            self._raw = {name: raw[name].clone() for name in self._averages() if name in raw}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Brings the average to the module, which was still on the host in `setup`."""
        if self.device is None and self._average_model is not None:
            # Not `n_averaged`, which stays on the host.
            self._average_model.module.to(pl_module.device)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts optimizer steps from where this run starts."""
        self._latest_update_step = trainer.global_step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Brings the raw weights back after a validation in mid-epoch."""
        self._show_raw(pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Averages after each optimizer step, but for one that the module says it has skipped."""
        if trainer.global_step > self._latest_update_step and not getattr(pl_module, "step_skipped", False):
            self._update(pl_module)
            self._latest_update_step = trainer.global_step

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Brings the raw weights back after a validation at the epoch's end."""
        self._show_raw(pl_module)
        super().on_train_epoch_end(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows the average, before any other callback looks."""
        self._show_average(pl_module)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The average is shown already."""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The average stays until training goes on: more validation hooks follow."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves the average in the module, for whatever comes after `fit`."""
        self._show_average(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Ends an interrupted `fit` as a finished one, before other callbacks save."""
        if self._average_model is None or trainer.state.fn != TrainerFn.FITTING:
            return
        self._show_raw(pl_module)
        # The step may have been taken and not yet averaged; a no-op otherwise.
        self.on_train_batch_end(trainer, pl_module, None, None, 0)
        self._show_average(pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Stores the average as `state_dict` and the raw weights as `current_model_state`."""
        if self._average_model is None:
            return
        held = checkpoint["state_dict"]
        checkpoint["current_model_state"] = held if self._raw is None else _replaced(held, self._raw)
        checkpoint["averaging_state"] = {"n_averaged": self._average_model.n_averaged}
        checkpoint["state_dict"] = self.averaged_state(held)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leaves the device to whatever comes after `fit`, as Lightning does with the module itself."""
        if self._average_model is not None:
            self._average_model.cpu()
        if self._raw is not None:
            self._raw = {name: weight.cpu() for name, weight in self._raw.items()}

    # Weights

    def _update(self, pl_module: LightningModule) -> None:
        """As `AveragedModel.update_parameters`, but never waits for the device: the count is on the host."""
        assert self._average_model is not None
        n, averages = self.n_averaged, [p.detach() for p in self._average_model.module.parameters()]
        pairs = zip(pl_module.parameters(), averages, strict=True)
        weights = [weight.detach().to(average.device) for weight, average in pairs]
        if n == 0:
            torch._foreach_copy_(averages, weights)
        else:
            torch._foreach_lerp_(averages, weights, 1 - min(self.decay, (1 + n) / (10 + n)))
        self._average_model.n_averaged += 1

    def _averages(self) -> dict[str, Tensor]:
        assert self._average_model is not None
        return _parameters(cast(LightningModule, self._average_model.module))

    def _show_average(self, pl_module: LightningModule) -> None:
        if self._raw is not None or self.n_averaged == 0:
            return
        averages, weights = self._averages(), _parameters(pl_module)
        # Complete before the first weight changes: an interrupted copy has lost nothing.
        self._raw = {name: weight.to(averages[name].device, copy=True) for name, weight in weights.items()}
        for name, weight in weights.items():
            weight.copy_(averages[name])

    def _show_raw(self, pl_module: LightningModule) -> None:
        if self._raw is None:
            return
        for name, weight in _parameters(pl_module).items():
            weight.copy_(self._raw[name])
        self._raw = None


def _parameters(module: torch.nn.Module) -> dict[str, Tensor]:
    """All parameters under all their names, as a state dict knows them."""
    return {name: p.detach() for name, p in module.named_parameters(remove_duplicate=False)}


def _replaced(state_dict: dict[str, Any], parameters: dict[str, Tensor]) -> dict[str, Any]:
    return {name: parameters.get(name, value) for name, value in state_dict.items()}
