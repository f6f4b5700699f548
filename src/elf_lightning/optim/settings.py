"""Settings of the optimizer, as given in YAML or a notebook, checked on creation."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, Literal

from torch import nn
from torch.optim import AdamW, Optimizer

from elf_lightning.errors import UserError
from elf_lightning.optim.muon import MuonWithNesterovAdam, muon_parameter_groups, split_parameters
from elf_lightning.optim.newton_schulz import NEWTON_SCHULZ_DTYPES


class OptimizerSettings(ABC):
    """The optimizer of a network, with its base learning rate at a global batch of 256 sequences.

    Attributes:
        base_learning_rate: scales with the global batch.
        matrix_averages: running averages that the optimizer keeps of each matrix.
    """

    base_learning_rate: float
    matrix_averages: ClassVar[int] = 2

    @abstractmethod
    def build(self, network: nn.Module, learning_rate: float) -> Optimizer:
        """The optimizer of all trainable parameters of `network`; a `UserError` if it has none.

        `learning_rate` is the peak rate, already scaled by the global batch (`scaled_learning_rate`).
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
        newton_schulz_dtype: precision of the orthogonalisation.
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
        _check(self)
        if not 0 <= self.momentum < 1:
            raise UserError(f"momentum={self.momentum}: give a number in [0, 1)")
        if self.newton_schulz_dtype not in NEWTON_SCHULZ_DTYPES:
            choices = ", ".join(NEWTON_SCHULZ_DTYPES)
            raise UserError(f"newton_schulz_dtype={self.newton_schulz_dtype!r}: choose one of {choices}")

    def build(self, network: nn.Module, learning_rate: float) -> MuonWithNesterovAdam:  # noqa: D102
        muon = {"momentum": self.momentum, "weight_decay": self.weight_decay}
        adam = {"betas": self.betas, "eps": self.eps}
        groups = [group | (muon if group["use_muon"] else adam) for group in muon_parameter_groups(network)]
        dtype = NEWTON_SCHULZ_DTYPES[self.newton_schulz_dtype]
        optimizer = MuonWithNesterovAdam(
            groups, learning_rate, newton_schulz_dtype=dtype, sharded=self.sharded
        )
        optimizer.register_load_state_dict_pre_hook(_keep_settings)
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
        _check(self)

    def build(self, network: nn.Module, learning_rate: float) -> AdamW:  # noqa: D102
        matrices, others = split_parameters(network)
        groups = [
            {"params": list(matrices.values()), "weight_decay": self.weight_decay},
            {"params": list(others.values()), "weight_decay": 0.0},
        ]
        optimizer = AdamW(groups, lr=learning_rate, betas=self.betas, eps=self.eps, foreach=True)
        optimizer.register_load_state_dict_pre_hook(_keep_settings)
        return optimizer


KINDS = {"use_muon", "momentum", "betas"}  # settings of a parameter group by which optimizers are told apart


def _check(settings: MuonSettings | AdamWSettings) -> None:
    for name in ("base_learning_rate", "eps"):
        if not 0 < (value := getattr(settings, name)) < inf:
            raise UserError(f"{name}={value}: give a positive number")
    if not 0 <= settings.weight_decay < inf:
        raise UserError(f"weight_decay={settings.weight_decay}: give 0 (none) or more")
    for beta in settings.betas:
        if not 0 <= beta < 1:
            raise UserError(f"betas={beta}: give a number in [0, 1)")


def _keep_settings(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    """On resuming, parameter groups take their step count from the checkpoint, but not their settings."""
    saved, own = state_dict["param_groups"], optimizer.param_groups
    kinds = ([(len(one["params"]), one.keys() & KINDS) for one in groups] for groups in (saved, own))
    if next(kinds) != next(kinds):
        raise UserError(
            "the checkpoint was written with another optimizer; resume with its model.optimizer, or start a "
            "new run from its weights with model.init_from"
        )
    settings = [{key: group[key] for key in group if key not in ("params", "step")} for group in own]
    groups = [old | new for old, new in zip(saved, settings, strict=True)]
    return state_dict | {"param_groups": groups}
