"""Which runs may replay their training passes as CUDA graphs."""

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import BatchSizeFinder
from lightning.pytorch.strategies import SingleDeviceStrategy

from elf_lightning.training.ddp import DDP


def can_replay(trainer: Trainer) -> bool:
    """Whether the run is on one NVIDIA GPU, or several with `DDP`, and each backward pass is a step.

    The gradients that a graph computes lie in memory that its next replay overwrites, so they can neither be
    accumulated nor copied on another stream, as by Lightning's own DDP. BatchSizeFinder runs out of memory on
    purpose, which the recording of a graph may not survive.
    """
    strategy = trainer.strategy
    return (
        isinstance(strategy, SingleDeviceStrategy | DDP)
        and strategy.root_device.type == "cuda"
        and torch.version.cuda is not None
        and trainer.accumulate_grad_batches == 1
        and not any(isinstance(one, BatchSizeFinder) for one in trainer.callbacks)  # type: ignore[attr-defined]
    )
