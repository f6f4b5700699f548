"""Optimizers, and the course of the learning rate."""

from elf_lightning.optim.groups import muon_parameter_groups, split_parameters
from elf_lightning.optim.muon import MuonWithNesterovAdam
from elf_lightning.optim.newton_schulz import orthogonalize
from elf_lightning.optim.schedule import Decay, learning_rate_factor, scaled_learning_rate
from elf_lightning.optim.settings import AdamW, Muon, OptimizerSettings, Schedule

__all__ = [
    "AdamW",
    "Decay",
    "Muon",
    "MuonWithNesterovAdam",
    "OptimizerSettings",
    "Schedule",
    "learning_rate_factor",
    "muon_parameter_groups",
    "orthogonalize",
    "scaled_learning_rate",
    "split_parameters",
]
