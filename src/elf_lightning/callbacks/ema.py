"""Exponential moving average of the weights, used by everything but training."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from elf_lightning.errors import UserError

Weights = dict[str, Tensor]
Content = dict[str, Any]  # of a checkpoint


class _AveragedCheckpointIO(CheckpointIO):
    """Writes averaged weights: Lightning calls no callback when it saves with `save_weights_only`."""

    def __init__(self, inner: CheckpointIO, ema: "EMA") -> None:
        self.inner, self.ema = inner, ema

    def save_checkpoint(self, checkpoint: Content, path: Any, storage_options: Any = None) -> None:
        if "state_dict" in checkpoint and "averaging_state" not in checkpoint:
            checkpoint = checkpoint | {"state_dict": self.ema.averaged_state(checkpoint["state_dict"])}
        self.inner.save_checkpoint(checkpoint, path, storage_options)

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return self.inner.load_checkpoint(path, *args, **kwargs)

    def remove_checkpoint(self, path: Any) -> None:
        self.inner.remove_checkpoint(path)

    def teardown(self) -> None:
        self.inner.teardown()


class EMA(Callback):
    """Averages the weights after every optimizer step; validation, samples and checkpoints use the average.

    After the n-th step, `average = d * average + (1 - d) * weights`:

    - With warm-up, `d = min(decay, n / (9 + n))`, and the first step's weights start the average, so that the
      average of a short run is not dominated by its first weights.
    - Without, `d = decay` throughout, and the initial weights are the first average, as published
      (arXiv 2605.10938 trains with decay 0.9999).

    Checkpoints have the form of those of Lightning's `WeightAveraging`: `state_dict` averaged (also with
    `save_weights_only`), `current_model_state` raw, and `averaging_state`. Unlike that callback, it exchanges
    nothing in place: raw weights are kept aside while the module holds the average, so that after an
    exception or Ctrl-C at any point, every checkpoint holds both sets of weights correctly. It runs first, so
    that all validation hooks see the average, and all training hooks raw weights. When `fit` ends, in
    whatever way, the module holds the average. Each `fit` without `ckpt_path` starts a new one.

    Args:
        decay: in [0, 1); 0 means no averaging.
        device: device of the averaged copy, by default the module's; `"cpu"` saves device memory at the price
            of a copy to the host in every step.
        warmup: whether the decay starts small and grows to its value, as above.
    """

    def __init__(self, decay: float = 0.9999, device: str | None = None, warmup: bool = True) -> None:
        if not 0 <= decay < 1:
            raise UserError(f"EMA decay={decay}: give a number in [0, 1), such as 0.9999")
        try:
            torch.device(device or "cpu")
        except RuntimeError as error:
            raise UserError(f"EMA device={device!r}: unknown device; leave it out or give 'cpu'") from error
        self.decay, self.device, self.warmup = decay, device, warmup
        self.n_averaged = 0  # optimizer steps in the average
        self._average: Weights | None = None
        self._raw: Weights | None = None  # not None exactly while the module holds the average
        self._latest_step = 0

    @contextmanager
    def average_weights(self, pl_module: LightningModule) -> Iterator[None]:
        """Within the context `pl_module` has averaged weights; after it, the weights it had before."""
        shown = self._raw is not None
        self.on_validation_start(pl_module.trainer, pl_module)
        try:
            yield
        finally:
            if not shown:
                self.on_train_batch_start(pl_module.trainer, pl_module)

    def averaged_state(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """A state dict of the module with its parameters replaced by averages."""
        return _replaced(state_dict, self._average if self.n_averaged else None)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Moves itself to the front, and wraps the writing of checkpoints; `fit` starts a new average."""
        order = sorted(trainer.callbacks, key=lambda one: one is not self)  # type: ignore[attr-defined]
        trainer.callbacks = order  # type: ignore[attr-defined]  # a new list: Lightning is iterating over the old one
        if stage == "fit":
            self.n_averaged, self._average, self._raw = 0, None, None
            if not isinstance(inner := trainer.strategy.checkpoint_io, _AveragedCheckpointIO):
                trainer.strategy.checkpoint_io = _AveragedCheckpointIO(inner, self)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: Content) -> None:
        """Takes both sets of weights; a checkpoint written without EMA starts a new average."""
        fitting = trainer.state.fn == TrainerFn.FITTING
        if self._average is None and not fitting:
            return  # `test`, `predict` or `validate` alone: the module has loaded the average
        self.n_averaged = int(checkpoint.get("averaging_state", {}).get("n_averaged", 0))
        self._average = {name: weight.clone() for name, weight in _parameters(pl_module).items()}
        raw = checkpoint.get("current_model_state") or checkpoint["state_dict"]
        if fitting:
            pl_module.load_state_dict(raw, strict=pl_module.strict_loading)
        else:
            self._raw = {name: raw[name].clone() for name in self._average if name in raw}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts from the module's weights, unless an average has been loaded."""
        self._latest_step = trainer.global_step
        weights = _parameters(pl_module)
        average = self._average if self._average and self.n_averaged else weights
        self._average = {
            name: average[name].to(self.device or weight.device, copy=True)
            for name, weight in weights.items()
        }

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Restores the raw weights after a validation within the epoch or at its end."""
        if self._raw is not None:
            for name, weight in _parameters(pl_module).items():
                weight.copy_(self._raw[name])
            self._raw = None

    on_train_epoch_end = on_train_batch_start

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Averages after each optimizer step that the module has not skipped."""
        if trainer.global_step == self._latest_step or getattr(pl_module, "step_skipped", False):
            return
        assert self._average is not None
        n, weights = self.n_averaged, _parameters(pl_module)
        moved = [weights[name].to(average.device) for name, average in self._average.items()]
        if self.warmup and n == 0:
            torch._foreach_copy_([*self._average.values()], moved)
        else:
            decay = min(self.decay, (1 + n) / (10 + n)) if self.warmup else self.decay
            torch._foreach_lerp_([*self._average.values()], moved, 1 - decay)
        self.n_averaged, self._latest_step = n + 1, trainer.global_step

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows the average, before any other callback runs; so does the end of `fit`."""
        if self._raw is not None or self._average is None or self.n_averaged == 0:
            return
        weights = _parameters(pl_module)
        # Complete before the first weight changes, so that an interrupted copy loses nothing.
        self._raw = {name: one.to(self._average[name].device, copy=True) for name, one in weights.items()}
        for name, weight in weights.items():
            weight.copy_(self._average[name])

    on_train_end = on_validation_start

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Ends an interrupted `fit` like a finished one, before other callbacks save."""
        if self._average is None or trainer.state.fn != TrainerFn.FITTING:
            return
        self.on_train_batch_start(trainer, pl_module)
        # The last step may not have been averaged yet; otherwise this does nothing.
        self.on_train_batch_end(trainer, pl_module)
        self.on_train_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: Content) -> None:
        """Stores the average as `state_dict` and the raw weights as `current_model_state`."""
        if self._average is not None:
            state = checkpoint["state_dict"]
            checkpoint["current_model_state"] = _replaced(state, self._raw)
            checkpoint["averaging_state"] = {"n_averaged": self.n_averaged}
            checkpoint["state_dict"] = self.averaged_state(state)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Moves all weights to the host, as Lightning does with the module."""
        for weights in (self._average or {}, self._raw or {}):
            weights.update({name: weight.cpu() for name, weight in weights.items()})


def _parameters(module: torch.nn.Module) -> Weights:
    """All parameters under all their names, as in a state dict."""
    return {name: p.detach() for name, p in module.named_parameters(remove_duplicate=False)}


def _replaced(state_dict: dict[str, Any], weights: Weights | None) -> dict[str, Any]:
    return {name: (weights or {}).get(name, value) for name, value in state_dict.items()}
