"""Optimizer and schedule as settings: what a YAML file or a notebook says, checked where it is said."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf, isfinite
from typing import Literal

import torch
from torch import nn

from elf_lightning.errors import UserError
from elf_lightning.optim.groups import muon_parameter_groups, split_parameters
from elf_lightning.optim.muon import MuonWithNesterovAdam
from elf_lightning.optim.resume import ResumedLR, keep_settings
from elf_lightning.optim.schedule import DECAYS, Decay, learning_rate_factor

_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class OptimizerSettings(ABC):
    """Which optimizer trains the network, and its base learning rate at a global batch of 256 rows."""

    base_learning_rate: float

    @abstractmethod
    def build(self, network: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        """The optimizer of all trainable parameters of `network`.

        Args:
            network: any module; frozen parameters are left out.
            learning_rate: the peak rate, already scaled by the global batch (`scaled_learning_rate`).

        Raises:
            UserError: the network has nothing to train.
        """


@dataclass(frozen=True)
class MuonSettings(OptimizerSettings):
    """Muon for matrices, Nesterov Adam for the rest: the paper's optimizer (arXiv 2605.10938).

    Args:
        base_learning_rate: learning rate at a global batch of 256 rows; it grows in proportion.
        momentum: of the matrices, in [0, 1).
        betas: of the Adam that moves vectors and learned tokens, each in [0, 1).
        eps: of the same Adam.
        weight_decay: decoupled decay of the matrices; 0 in the paper.
        newton_schulz_dtype: precision of the orthogonalisation; bfloat16 is faster on a GPU.
        sharded: with several devices, each orthogonalises a share of the matrices and sends it round.
    """

    base_learning_rate: float = 1e-3
    momentum: float = 0.95
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    newton_schulz_dtype: Literal["float32", "bfloat16"] = "float32"
    sharded: bool = False

    def __post_init__(self) -> None:
        _check_positive("base_learning_rate", self.base_learning_rate)
        _check_fractions("momentum", self.momentum)
        _check_adam(self.betas, self.eps, self.weight_decay)
        if self.newton_schulz_dtype not in _PRECISIONS:
            raise UserError(
                f"newton_schulz_dtype={self.newton_schulz_dtype!r}: choose one of {', '.join(_PRECISIONS)}"
            )

    def build(self, network: nn.Module, learning_rate: float) -> MuonWithNesterovAdam:
        """See `OptimizerSettings.build`.

        Raises:
            UserError: the network has nothing to train.
        """
        groups = muon_parameter_groups(network)
        for group in groups:
            if group["use_muon"]:
                group |= {"momentum": self.momentum, "weight_decay": self.weight_decay}
            else:
                group |= {"betas": self.betas, "eps": self.eps}
        dtype = _PRECISIONS[self.newton_schulz_dtype]
        optimizer = MuonWithNesterovAdam(
            groups, lr=learning_rate, newton_schulz_dtype=dtype, sharded=self.sharded
        )
        optimizer.register_load_state_dict_pre_hook(keep_settings)
        return optimizer


@dataclass(frozen=True)
class AdamWSettings(OptimizerSettings):
    """AdamW for every parameter (Loshchilov and Hutter 2019); only matrices decay.

    Args:
        base_learning_rate: learning rate at a global batch of 256 rows; it grows in proportion.
        betas: of the running averages, each in [0, 1).
        eps: added to the root of the second average.
        weight_decay: decoupled decay of the matrices.
    """

    base_learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check_positive("base_learning_rate", self.base_learning_rate)
        _check_adam(self.betas, self.eps, self.weight_decay)

    def build(self, network: nn.Module, learning_rate: float) -> torch.optim.AdamW:
        """See `OptimizerSettings.build`.

        Raises:
            UserError: the network has nothing to train.
        """
        matrices, others = split_parameters(network)
        if not matrices and not others:
            raise UserError("the network has no trainable parameter: nothing for an optimizer to do")
        groups = [
            {"params": list(matrices.values()), "weight_decay": self.weight_decay},
            {"params": list(others.values()), "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=self.betas, eps=self.eps, foreach=True)
        optimizer.register_load_state_dict_pre_hook(keep_settings)
        return optimizer


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up from 0, then a constant rate or half a cosine down to 0.

    Args:
        warmup_steps: length of the warm-up in optimizer steps.
        warmup_epochs: the same in epochs, instead; 0.5 in the paper. With neither there is no warm-up.
        decay: what follows the warm-up, `constant` or `cosine`.
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
        """The warm-up in optimizer steps, a part of a step rounded down.

        Raises:
            UserError: it is longer than the run of `total_steps`, or a cosine is asked of a run without end.
        """
        if self.decay == "cosine" and total_steps == inf:
            raise UserError("decay='cosine': needs a run with an end; set trainer.max_epochs or max_steps")
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
            total_steps: optimizer steps of the whole run; `inf` for a run without end.
            steps_per_epoch: optimizer steps an epoch.

        Raises:
            UserError: the warm-up is longer than the run, or a cosine is asked of a run without end.
        """
        warmup = self.resolve_warmup(steps_per_epoch, total_steps)
        return ResumedLR(optimizer, lambda step: learning_rate_factor(step, warmup, total_steps, self.decay))


def _check_positive(name: str, value: float) -> None:
    if not (isfinite(value) and value > 0):
        raise UserError(f"{name}={value}: give a positive number")


def _check_fractions(name: str, *values: float) -> None:
    for value in values:
        if not 0 <= value < 1:
            raise UserError(f"{name}={value}: give a number from 0 up to, not including, 1")


def _check_adam(betas: tuple[float, float], eps: float, weight_decay: float) -> None:
    _check_fractions("betas", *betas)
    _check_positive("eps", eps)
    if not (isfinite(weight_decay) and weight_decay >= 0):
        raise UserError(f"weight_decay={weight_decay}: give 0 (none) or more")
