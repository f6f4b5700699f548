"""The plan of a run, worked out and printed before its first step."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from elf_lightning.callbacks.ema import EMA
from elf_lightning.callbacks.metric_text import lines, magnitude
from elf_lightning.data import ELFDataModule
from elf_lightning.errors import UserError
from elf_lightning.optim import scaled_learning_rate, split_parameters
from elf_lightning.terminal import say

WIDTH = 70  # columns of a list, beside the names on a terminal of 80 columns
USABLE = 0.95  # fraction of a device's memory that a plan may fill


@dataclass(frozen=True)
class RunPlan:
    """Numbers of a run."""

    parameters: int  # of the network
    sequences: int  # for training, per epoch
    length: int  # tokens per sequence, padding included
    batch_size: int  # sequences per device and micro-batch
    devices: int  # that train together
    accumulation: int  # micro-batches per optimizer step
    steps_per_epoch: int  # optimizer steps
    total_steps: float  # optimizer steps of the whole run; `inf` if only time ends it
    warmup_steps: int
    learning_rate: float  # after warm-up, scaled by the global batch
    base_learning_rate: float  # at 256 sequences
    decay: str  # of the learning rate after warm-up
    step_flops: float  # FLOPs of an optimizer step on all devices
    memory: dict[str, int]  # bytes per device, besides the activations and the frozen encoder
    device_memory: int | None  # bytes that the device has; None for a CPU

    @property
    def global_batch(self) -> int:
        """Sequences per optimizer step."""
        return self.batch_size * self.devices * self.accumulation

    def lines(self) -> list[tuple[str, str]]:
        """The plan in words: the name and the text of each line."""
        kept, tokens = sum(self.memory.values()), magnitude(self.sequences * self.length)
        factors = f"{self.batch_size} x {self.devices} device(s) x {self.accumulation} micro-batch(es)"
        rate = f"{self.learning_rate:.4g} ({self.base_learning_rate:.4g} at 256 sequences)"
        epochs = f"{self.total_steps:,} in total: {self.total_steps / self.steps_per_epoch:.3g} epoch(s)"
        until = epochs if math.isfinite(self.total_steps) else "until trainer.max_time is over"
        parts = (f"{name} {magnitude(size)}B" for name, size in self.memory.items())
        result = [
            ("network", f"{magnitude(self.parameters)} parameters"),
            ("data", f"{self.sequences:,} sequences of {self.length:,} tokens, {tokens} tokens per epoch"),
            ("batch", f"{self.global_batch:,} sequences per step: {factors}"),
            ("steps", f"{self.steps_per_epoch:,} per epoch, {until}"),
            ("rate", f"{rate} after {self.warmup_steps:,} steps of warm-up, then {self.decay}"),
            ("compute", f"{magnitude(self.step_flops)} FLOPs per step"),
            ("memory", f"{magnitude(kept)}B per device, and activations, which grow with data.batch_size:"),
            *(("", line) for line in lines(parts, WIDTH)),
        ]
        if self.device_memory is not None and kept > USABLE * self.device_memory:
            remedy = "choose a smaller model.network, or EMA with device cpu"
            result.append(("", f"which is more than the device's {magnitude(self.device_memory)}B: {remedy}"))
        return result

    def show(self) -> None:
        """Print the plan, one line per item."""
        for name, text in self.lines():
            say(f"{name:9}{text}")


def plan_run(module: Any, data: Any, trainer: Trainer) -> RunPlan | None:
    """The plan of `trainer.fit(module, datamodule=data)`. Prepares the data if necessary; embeds nothing.

    The module trains its `network` by the settings `optimizer` and `schedule`, at a cost of
    `training_flops(batch_size, length)` per micro-batch. Without any of these, or an `ELFDataModule`, there
    is no plan. Settings that the run cannot have are a `UserError`.
    """
    needed = ("network", "optimizer", "schedule", "training_flops")
    if not (isinstance(data, ELFDataModule) and all(hasattr(module, name) for name in needed)):
        return None
    devices, limit = trainer.world_size, trainer.limit_train_batches
    accumulation = data.accumulation(devices, trainer.accumulate_grad_batches)
    batches = data.batches_per_epoch(devices, limit)
    if batches == 0:
        raise UserError(f"trainer.limit_train_batches {limit} leaves no batch; give a larger value")
    every = getattr(trainer, "val_check_interval", None)  # there is none if validation goes by time
    per_epoch = trainer.check_val_every_n_epoch is not None and trainer.limit_val_batches != 0
    if isinstance(every, int) and per_epoch and every > batches:
        raise UserError(
            f"trainer.val_check_interval {every} is more than the {batches} batches of an epoch; set it to "
            f"at most {batches}, or trainer.check_val_every_n_epoch to null to count across epochs"
        )
    steps_per_epoch = math.ceil(batches / accumulation)
    by_steps = math.inf if trainer.max_steps == -1 else trainer.max_steps
    by_epochs = math.inf if trainer.max_epochs in (None, -1) else trainer.max_epochs * steps_per_epoch
    total_steps = min(by_steps, by_epochs)
    base_rate, device = module.optimizer.base_learning_rate, trainer.strategy.root_device
    memory = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None
    trial = bool(trainer.fast_dev_run)  # type: ignore[attr-defined]
    return RunPlan(
        parameters=sum(p.numel() for p in module.network.parameters()),
        sequences=data.num_train_examples,
        length=data.max_length,
        batch_size=data.batch_size,
        devices=devices,
        accumulation=accumulation,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        warmup_steps=module.schedule.resolve_warmup(steps_per_epoch, total_steps, trial),
        learning_rate=scaled_learning_rate(base_rate, data.batch_size * devices * accumulation),
        base_learning_rate=base_rate,
        decay=module.schedule.decay,
        step_flops=module.training_flops(data.batch_size, data.max_length) * devices * accumulation,
        memory=_memory(module, trainer),
        device_memory=memory,
    )


def _memory(module: Any, trainer: Trainer) -> dict[str, int]:
    """Bytes on each device by purpose; all numbers are float32."""
    matrices, others = (sum(p.numel() for p in part.values()) for part in split_parameters(module.network))
    weights = sum(p.numel() for p in module.parameters())
    teacher = getattr(getattr(module, "objective", None), "teacher", None)  # no part of the module
    averaged = any(isinstance(one, EMA) and one.device is None for one in trainer.callbacks)  # type: ignore[attr-defined]
    numbers = {
        "weights": weights,
        "teacher": 0 if teacher is None else sum(p.numel() for p in teacher.parameters()),
        "gradients": matrices + others,
        "optimizer": module.optimizer.matrix_averages * matrices + 2 * others,
        "average": weights * averaged,
    }
    return {name: 4 * count for name, count in numbers.items() if count}


class RunSummary(Callback):
    """Prints the plan of `fit` before its first step, and where a resumed run continues."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the plan, if the module has the settings that it needs."""
        plan = plan_run(pl_module, trainer.datamodule, trainer)  # type: ignore[attr-defined]
        if plan is not None and trainer.is_global_zero:
            plan.show()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints where a resumed run continues."""
        if trainer.global_step and trainer.is_global_zero:
            batch = trainer.fit_loop.batch_idx + 1
            place = f"step {trainer.global_step:,}, epoch {trainer.current_epoch}, batch {batch:,}"
            say(f"{'resumed':9}at {place}, from {trainer.ckpt_path}")
