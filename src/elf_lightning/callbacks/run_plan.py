"""What a run is going to do, worked out before its first step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from lightning.pytorch import Trainer

from elf_lightning.callbacks.ema import EMA
from elf_lightning.callbacks.metric_text import lines, magnitude
from elf_lightning.callbacks.throughput import CountsFlops
from elf_lightning.data import ELFDataModule
from elf_lightning.data.batch_size import check_accumulation, whole_batches
from elf_lightning.errors import UserError
from elf_lightning.network import ELFNetwork
from elf_lightning.network.memory import activation_bytes, head_bytes
from elf_lightning.objectives import ELFObjective
from elf_lightning.optim import MuonSettings, OptimizerSettings, Schedule, scaled_learning_rate
from elf_lightning.optim.groups import split_parameters

WIDTH = 70
"""Columns for a list, which leave room for a word before it on a terminal of 80."""
USABLE = 0.95
"""Share of a device's memory that a plan may fill."""


@runtime_checkable
class PlannableModule(CountsFlops, Protocol):
    """A module that trains an ELF network with settings that are known beforehand."""

    network: ELFNetwork
    objective: ELFObjective
    optimizer: OptimizerSettings
    schedule: Schedule


@dataclass(frozen=True)
class RunPlan:
    """Numbers of a run.

    Attributes:
        parameters: of the network.
        rows: training rows an epoch.
        length: tokens a row, padding included.
        batch_size: rows a device and micro-batch.
        devices: that train together.
        accumulation: micro-batches an optimizer step.
        steps_per_epoch: optimizer steps.
        total_steps: of the whole run; `inf` where only time ends it.
        warmup_steps: of these.
        learning_rate: after warm-up, scaled by the global batch.
        base_learning_rate: at 256 rows.
        decay: of the learning rate after warm-up.
        step_flops: of an optimizer step on all devices.
        memory: bytes a device at the peak of a training step, by what they are for; without what the
            frozen encoder, libraries and fragmentation take.
        checkpointed_memory: bytes of the same with gradient checkpointing.
        device_memory: bytes that the device has; None for a CPU.
    """

    parameters: int
    rows: int
    length: int
    batch_size: int
    devices: int
    accumulation: int
    steps_per_epoch: int
    total_steps: float
    warmup_steps: int
    learning_rate: float
    base_learning_rate: float
    decay: str
    step_flops: float
    memory: dict[str, int]
    checkpointed_memory: int
    device_memory: int | None

    @property
    def global_batch(self) -> int:
        """Rows an optimizer step."""
        return self.batch_size * self.devices * self.accumulation

    def lines(self) -> list[tuple[str, str]]:
        """The plan as a person reads it: a word and what there is to say."""
        peak = sum(self.memory.values())
        tokens = magnitude(self.rows * self.length)
        result = [
            ("network", f"{magnitude(self.parameters)} parameters"),
            ("data", f"{self.rows:,} rows of {self.length:,}, {tokens} tokens an epoch"),
            ("batch", f"{self.global_batch:,} rows a step: {self._product()}"),
            ("steps", self._steps()),
            ("rate", self._rate()),
            ("compute", f"{magnitude(self.step_flops)} FLOPs a step"),
            ("memory", f"about {_bytes(peak)} a device"),
        ]
        parts = (f"{name} {_bytes(size)}" for name, size in self.memory.items())
        result += [("", line) for line in lines(parts, WIDTH)]
        if self.device_memory is not None and peak > USABLE * self.device_memory:
            has = _bytes(self.device_memory)
            remedy = "a smaller data.batch_size"
            if self.checkpointed_memory <= USABLE * self.device_memory:
                needs = _bytes(self.checkpointed_memory)
                remedy += f", or model.network.gradient_checkpointing (about {needs})"
            result.append(("", f"which is more than the device has, {has}: set {remedy}"))
        return result

    def _product(self) -> str:
        return f"{self.batch_size} x {self.devices} device(s) x {self.accumulation} micro-batch(es)"

    def _rate(self) -> str:
        rate = f"{self.learning_rate:.4g} ({self.base_learning_rate:.4g} at 256 rows)"
        return f"{rate} after {self.warmup_steps:,} steps of warm-up, then {self.decay}"

    def _steps(self) -> str:
        epoch = f"{self.steps_per_epoch:,} an epoch"
        if math.isinf(self.total_steps):
            return f"{epoch}, until trainer.max_time is over"
        return f"{epoch}, {self.total_steps:,} in all: {self.total_steps / self.steps_per_epoch:.3g} epoch(s)"


def plan_run(module: PlannableModule, data: ELFDataModule, trainer: Trainer) -> RunPlan:
    """The plan of `trainer.fit(module, datamodule=data)`; prepares rows if need be, and embeds nothing.

    Raises:
        UserError: if the source cannot be read, the global batch is no multiple of what goes at a time or
            contradicts the Trainer's accumulation, there is not one batch for each device, validation is
            due after more batches than an epoch has, the warm-up is longer than the run, or a cosine is asked
            of a run that only time ends.
    """
    devices = trainer.world_size
    accumulation = trainer.accumulate_grad_batches
    if data.global_batch_size is not None:
        needed = data.accumulation(devices)
        check_accumulation(data.global_batch_size, needed, accumulation)
        accumulation = needed
    rows = data.num_train_examples
    batches = _limited(whole_batches(rows, data.batch_size, devices), trainer.limit_train_batches)
    if batches == 0:
        raise UserError(
            f"trainer.limit_train_batches {trainer.limit_train_batches} leaves none of the epoch's batches; "
            "give a larger one"
        )
    _check_validation(trainer, batches)
    steps_per_epoch = math.ceil(batches / accumulation)
    total_steps = _total_steps(trainer, steps_per_epoch)
    base_rate = module.optimizer.base_learning_rate
    return RunPlan(
        parameters=sum(p.numel() for p in module.network.parameters()),
        rows=rows,
        length=data.max_length,
        batch_size=data.batch_size,
        devices=devices,
        accumulation=accumulation,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        warmup_steps=module.schedule.resolve_warmup(steps_per_epoch, total_steps),
        learning_rate=scaled_learning_rate(base_rate, data.batch_size * devices * accumulation),
        base_learning_rate=base_rate,
        decay=module.schedule.decay,
        step_flops=module.training_flops(data.batch_size, data.max_length) * devices * accumulation,
        memory=_memory(module, data, trainer),
        checkpointed_memory=sum(_memory(module, data, trainer, checkpointing=True).values()),
        device_memory=_device_memory(trainer.strategy.root_device),
    )


def _limited(batches: int, limit: int | float | None) -> int:
    if limit is None:
        return batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def _check_validation(trainer: Trainer, batches: int) -> None:
    every = trainer.val_check_interval
    per_epoch = trainer.check_val_every_n_epoch is not None
    if isinstance(every, int) and per_epoch and trainer.limit_val_batches != 0 and every > batches:
        raise UserError(
            f"trainer.val_check_interval {every} is more than the {batches} batches of an epoch; set at most "
            f"{batches}, or trainer.check_val_every_n_epoch to null to count over epochs"
        )


def _total_steps(trainer: Trainer, steps_per_epoch: int) -> float:
    by_steps = math.inf if trainer.max_steps == -1 else trainer.max_steps
    by_epochs = math.inf if trainer.max_epochs in (None, -1) else trainer.max_epochs * steps_per_epoch
    return min(by_steps, by_epochs)


def _memory(
    module: PlannableModule, data: ELFDataModule, trainer: Trainer, checkpointing: bool | None = None
) -> dict[str, int]:
    network, rows, length = module.network, data.batch_size, data.max_length
    matrices, others = (sum(p.numel() for p in part.values()) for part in split_parameters(network))
    averages = 1 if isinstance(module.optimizer, MuonSettings) else 2
    fused = trainer.strategy.root_device.type == "cuda"
    decode_rows, _ = module.objective.mean_counts(rows)
    compute_bytes = 2 if "16" in str(trainer.precision) else 4
    averaged = any(map(_averages_there, trainer.callbacks))  # type: ignore[attr-defined]
    sizes = {
        "weights": 4 * (matrices + others),
        "gradients": 4 * (matrices + others),
        "optimizer": 4 * (averages * matrices + 2 * others),
        "average": 4 * (matrices + others) * averaged,
        "activations": activation_bytes(network, rows, length, compute_bytes, fused, checkpointing),
        "heads": head_bytes(network, rows, length, decode_rows),
    }
    return {name: size for name, size in sizes.items() if size}


def _averages_there(callback: object) -> bool:
    """Whether a callback keeps averaged weights on the device."""
    return isinstance(callback, EMA) and callback.device is None


def _device_memory(device: torch.device) -> int | None:
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None


def _bytes(size: int) -> str:
    return f"{magnitude(size)}B"
