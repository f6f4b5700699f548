"""Settings of optimizer and schedule, as given in YAML or a notebook, checked on creation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf, isfinite
from typing import ClassVar, Literal

import torch
from torch import nn

from elf_lightning.errors import UserError
from elf_lightning.optim.groups import muon_parameter_groups, split_parameters
from elf_lightning.optim.muon import MuonWithNesterovAdam
from elf_lightning.optim.newton_schulz import NEWTON_SCHULZ_DTYPES
from elf_lightning.optim.resume import ResumedLR, keep_settings
from elf_lightning.optim.schedule import DECAYS, Decay, learning_rate_factor


class OptimizerSettings(ABC):
    """The optimizer of a network, with its base learning rate at a global batch of 256 sequences.

    Attributes:
        base_learning_rate: scales with the global batch.
        matrix_averages: running averages that the optimizer keeps of each matrix.
    """

    base_learning_rate: float
    matrix_averages: ClassVar[int] = 2

    @abstractmethod
    def build(self, network: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        """The optimizer of all trainable parameters of `network`.

        Args:
            network: any module; frozen parameters are skipped.
            learning_rate: the peak rate, already scaled by the global batch (`scaled_learning_rate`).

        Raises:
            UserError: the network has nothing to train.
        """


@dataclass(frozen=True)
class MuonSettings(OptimizerSettings):
    """Muon for matrices and Nesterov Adam for the rest, the paper's optimizer (arXiv 2605.10938).

    Args:
        base_learning_rate: learning rate at a global batch of 256 sequences; scales with the batch.
        momentum: of the matrices, in [0, 1).
        betas: of Adam for vectors and learned tokens, each in [0, 1).
        eps: of the same Adam.
        weight_decay: decoupled decay of the matrices; 0 in the paper.
        newton_schulz_dtype: precision of the orthogonalisation; bfloat16 is faster on a GPU.
        sharded: split the orthogonalisation among devices.
    """

    matrix_averages: ClassVar[int] = 1

    base_learning_rate: float = 1e-3
    momentum: float = 0.95
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    newton_schulz_dtype: Literal["float32", "bfloat16"] = "float32"
    sharded: bool = False

    def __post_init__(self) -> None:
        _check_numbers(self)
        if self.newton_schulz_dtype not in NEWTON_SCHULZ_DTYPES:
            choices = ", ".join(NEWTON_SCHULZ_DTYPES)
            raise UserError(f"newton_schulz_dtype={self.newton_schulz_dtype!r}: choose one of {choices}")

    def build(self, network: nn.Module, learning_rate: float) -> MuonWithNesterovAdam:
        """See `OptimizerSettings.build`."""
        groups = muon_parameter_groups(network)
        for group in groups:
            if group["use_muon"]:
                group |= {"momentum": self.momentum, "weight_decay": self.weight_decay}
            else:
                group |= {"betas": self.betas, "eps": self.eps}
        dtype = NEWTON_SCHULZ_DTYPES[self.newton_schulz_dtype]
        optimizer = MuonWithNesterovAdam(
            groups, learning_rate, newton_schulz_dtype=dtype, sharded=self.sharded
        )
        optimizer.register_load_state_dict_pre_hook(keep_settings)
        return optimizer


@dataclass(frozen=True)
class AdamWSettings(OptimizerSettings):
    """AdamW for every parameter (Loshchilov and Hutter 2019), with weight decay of matrices only.

    Args:
        base_learning_rate: learning rate at a global batch of 256 sequences; scales with the batch.
        betas: of the running averages, each in [0, 1). The official code uses (0.9, 0.95).
        eps: added to the root of the second average.
        weight_decay: decoupled decay of the matrices.
    """

    base_learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check_numbers(self)

    def build(self, network: nn.Module, learning_rate: float) -> torch.optim.AdamW:
        """See `OptimizerSettings.build`."""
        matrices, others = split_parameters(network)
        groups = [
            {"params": list(matrices.values()), "weight_decay": self.weight_decay},
            {"params": list(others.values()), "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=self.betas, eps=self.eps, foreach=True)
        optimizer.register_load_state_dict_pre_hook(keep_settings)
        return optimizer


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
        if self.warmup_steps < 0:
            raise UserError(f"warmup_steps={self.warmup_steps}: give 0 (no warm-up) or more")
        if not (isfinite(self.warmup_epochs) and self.warmup_epochs >= 0):
            raise UserError(f"warmup_epochs={self.warmup_epochs}: give 0 (no warm-up) or more")
        if self.warmup_steps and self.warmup_epochs:
            raise UserError(
                f"warmup_steps={self.warmup_steps}, warmup_epochs={self.warmup_epochs}: give one, not both"
            )
        if self.decay not in DECAYS:
            raise UserError(f"decay={self.decay!r}: choose one of {', '.join(DECAYS)}")

    def resolve_warmup(self, steps_per_epoch: int, total_steps: float) -> int:
        """The warm-up in optimizer steps, rounded down.

        Raises:
            UserError: it is longer than the run of `total_steps`, or a cosine is asked for without a number
                of steps.
        """
        if self.decay == "cosine" and total_steps == inf:
            raise UserError(
                "decay='cosine': needs the length of the run; set trainer.max_epochs or trainer.max_steps"
            )
        warmup = self.warmup_steps or int(self.warmup_epochs * steps_per_epoch)
        if warmup > total_steps:
            given = f"warmup_steps={warmup}" if self.warmup_steps else f"warmup_epochs={self.warmup_epochs}"
            raise UserError(
                f"{given}: a warm-up of {warmup} steps is longer than the run of {total_steps} steps; "
                "shorten it or train longer"
            )
        return warmup

    def build(self, optimizer: torch.optim.Optimizer, total_steps: float, steps_per_epoch: int) -> ResumedLR:
        """The scheduler, to be stepped after every optimizer step.

        Args:
            optimizer: its groups' learning rates are the peak rates.
            total_steps: optimizer steps of the whole run; `inf` if only time ends it.
            steps_per_epoch: optimizer steps per epoch.

        Raises:
            UserError: as `resolve_warmup`.
        """
        warmup = self.resolve_warmup(steps_per_epoch, total_steps)
        return ResumedLR(optimizer, lambda step: learning_rate_factor(step, warmup, total_steps, self.decay))


def _check_numbers(settings: OptimizerSettings) -> None:
    for name, value in vars(settings).items():
        if name in ("base_learning_rate", "eps") and not (isfinite(value) and value > 0):
            raise UserError(f"{name}={value}: give a positive number")
        if name == "weight_decay" and not (isfinite(value) and value >= 0):
            raise UserError(f"{name}={value}: give 0 (none) or more")
        if name in ("momentum", "betas"):
            for fraction in value if name == "betas" else [value]:
                if not 0 <= fraction < 1:
                    raise UserError(f"{name}={fraction}: give a number in [0, 1)")
