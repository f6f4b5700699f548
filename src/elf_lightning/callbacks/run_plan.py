"""The plan of a run, worked out before its first step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from lightning.pytorch import Trainer
from torch import nn

from elf_lightning.callbacks.ema import EMA
from elf_lightning.callbacks.metric_text import lines, magnitude
from elf_lightning.callbacks.throughput import CountsFlops
from elf_lightning.data import ELFDataModule
from elf_lightning.data.sampler import whole_batches
from elf_lightning.errors import UserError
from elf_lightning.network import ELFNetwork
from elf_lightning.network.memory import activation_bytes, head_bytes
from elf_lightning.objectives import Objective
from elf_lightning.optim import OptimizerSettings, Schedule, scaled_learning_rate, split_parameters

WIDTH = 70
"""Columns of a list, beside the names on a terminal of 80 columns."""
USABLE = 0.95
"""Fraction of a device's memory that a plan may fill."""


@runtime_checkable
class PlannableModule(CountsFlops, Protocol):
    """A module that trains `network` by settings of optimizer and schedule.

    The memory of activations is estimated for an `ELFNetwork`; an `objective` attribute, if there is one,
    tells how many sequences decode.
    """

    @property
    def network(self) -> nn.Module:
        """The network to train."""

    @property
    def optimizer(self) -> OptimizerSettings:
        """Its optimizer."""

    @property
    def schedule(self) -> Schedule:
        """Its learning-rate schedule."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """All parameters that the module keeps on the device, frozen ones included."""


@dataclass(frozen=True)
class RunPlan:
    """Numbers of a run.

    Attributes:
        parameters: of the network.
        sequences: training sequences per epoch.
        length: tokens per sequence, padding included.
        batch_size: sequences per device and micro-batch.
        devices: that train together.
        accumulation: micro-batches per optimizer step.
        steps_per_epoch: optimizer steps.
        total_steps: optimizer steps of the whole run; `inf` if only time ends it.
        warmup_steps: of these.
        learning_rate: after warm-up, scaled by the global batch.
        base_learning_rate: at 256 sequences.
        decay: of the learning rate after warm-up.
        step_flops: FLOPs of an optimizer step on all devices.
        memory: bytes per device at the peak of a training step, by purpose; without the frozen encoder,
            libraries and fragmentation.
        checkpointed_memory: total bytes of the same with gradient checkpointing.
        device_memory: bytes that the device has; None for a CPU.
    """

    parameters: int
    sequences: int
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
        """Sequences per optimizer step."""
        return self.batch_size * self.devices * self.accumulation

    def lines(self) -> list[tuple[str, str]]:
        """The plan in words: the name and the text of each line."""
        peak, tokens = sum(self.memory.values()), magnitude(self.sequences * self.length)
        factors = f"{self.batch_size} x {self.devices} device(s) x {self.accumulation} micro-batch(es)"
        rate = f"{self.learning_rate:.4g} ({self.base_learning_rate:.4g} at 256 sequences)"
        result = [
            ("network", f"{magnitude(self.parameters)} parameters"),
            ("data", f"{self.sequences:,} sequences of {self.length:,} tokens, {tokens} tokens per epoch"),
            ("batch", f"{self.global_batch:,} sequences per step: {factors}"),
            ("steps", self._steps()),
            ("rate", f"{rate} after {self.warmup_steps:,} steps of warm-up, then {self.decay}"),
            ("compute", f"{magnitude(self.step_flops)} FLOPs per step"),
            ("memory", f"about {_bytes(peak)} per device"),
        ]
        parts = (f"{name} {_bytes(size)}" for name, size in self.memory.items())
        result += [("", line) for line in lines(parts, WIDTH)]
        if self.device_memory is not None and peak > USABLE * self.device_memory:
            result.append(("", self._remedy(self.device_memory)))
        return result

    def _steps(self) -> str:
        epoch = f"{self.steps_per_epoch:,} per epoch"
        if math.isinf(self.total_steps):
            return f"{epoch}, until trainer.max_time is over"
        epochs = self.total_steps / self.steps_per_epoch
        return f"{epoch}, {self.total_steps:,} in total: {epochs:.3g} epoch(s)"

    def _remedy(self, device_memory: int) -> str:
        remedy = "a smaller data.batch_size"
        if self.checkpointed_memory <= USABLE * device_memory:
            needed = _bytes(self.checkpointed_memory)
            remedy += f", or model.network.gradient_checkpointing (about {needed})"
        return f"which is more than the {_bytes(device_memory)} of the device: set {remedy}"


def plan_run(module: PlannableModule, data: ELFDataModule, trainer: Trainer) -> RunPlan:
    """The plan of `trainer.fit(module, datamodule=data)`. Prepares the data if necessary; embeds nothing.

    Raises:
        UserError: if the source cannot be read, the global batch is not a multiple of what all devices take
            at a time or contradicts the Trainer's accumulation, there is less than one batch per device,
            validation is due after more batches than an epoch has, the warm-up is longer than the run, or a
            cosine is asked for without a number of steps.
    """
    devices = trainer.world_size
    accumulation = data.accumulation(devices, trainer.accumulate_grad_batches)
    sequences = data.num_train_examples
    batches = _limited(whole_batches(sequences, data.batch_size, devices), trainer.limit_train_batches)
    if batches == 0:
        raise UserError(
            f"trainer.limit_train_batches {trainer.limit_train_batches} leaves no batch of an epoch; "
            "give a larger value"
        )
    _check_validation(trainer, batches)
    steps_per_epoch = math.ceil(batches / accumulation)
    total_steps = _total_steps(trainer, steps_per_epoch)
    base_rate = module.optimizer.base_learning_rate
    return RunPlan(
        parameters=sum(p.numel() for p in module.network.parameters()),
        sequences=sequences,
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
            f"trainer.val_check_interval {every} is more than the {batches} batches of an epoch; set it to "
            f"at most {batches}, or trainer.check_val_every_n_epoch to null to count across epochs"
        )


def _total_steps(trainer: Trainer, steps_per_epoch: int) -> float:
    by_steps = math.inf if trainer.max_steps == -1 else trainer.max_steps
    by_epochs = math.inf if trainer.max_epochs in (None, -1) else trainer.max_epochs * steps_per_epoch
    return min(by_steps, by_epochs)


def _memory(
    module: PlannableModule, data: ELFDataModule, trainer: Trainer, checkpointing: bool | None = None
) -> dict[str, int]:
    network, batch_size, length = module.network, data.batch_size, data.max_length
    matrices, others = (sum(p.numel() for p in part.values()) for part in split_parameters(network))
    weights = sum(p.numel() for p in module.parameters())
    averaged = any(isinstance(one, EMA) and one.device is None for one in trainer.callbacks)  # type: ignore[attr-defined]
    sizes = {
        "weights": 4 * weights,
        "gradients": 4 * (matrices + others),
        "optimizer": 4 * (module.optimizer.matrix_averages * matrices + 2 * others),
        "average": 4 * weights * averaged,
    }
    if isinstance(network, ELFNetwork):
        objective = getattr(module, "objective", None)
        decode = objective.mean_counts(batch_size)[0] if isinstance(objective, Objective) else batch_size
        compute_bytes = 2 if "16" in str(trainer.precision) else 4
        sizes["activations"] = activation_bytes(network, batch_size, length, compute_bytes, checkpointing)
        sizes["heads"] = head_bytes(network, batch_size, length, decode)
    return {name: size for name, size in sizes.items() if size}


def _device_memory(device: torch.device) -> int | None:
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None


def _bytes(size: int) -> str:
    return f"{magnitude(size)}B"
