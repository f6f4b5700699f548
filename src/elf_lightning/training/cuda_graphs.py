"""Which runs may replay their training passes as CUDA graphs."""

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, GradientAccumulationScheduler
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy


def can_replay(trainer: Trainer) -> bool:
    """Whether the run is on one NVIDIA GPU or several with DDP, and each backward pass is an optimizer step.

    The gradients that a graph computes lie in memory that its next replay overwrites, so they cannot be
    accumulated. BatchSizeFinder runs out of memory on purpose, which the recording of a graph may not
    survive.
    """
    strategy, refused = trainer.strategy, (BatchSizeFinder, GradientAccumulationScheduler)
    return (
        isinstance(strategy, SingleDeviceStrategy | DDPStrategy)
        and strategy.root_device.type == "cuda"
        and torch.version.cuda is not None
        and trainer.accumulate_grad_batches == 1
        and not any(isinstance(one, refused) for one in trainer.callbacks)  # type: ignore[attr-defined]
    )
