"""Training on several devices."""

from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from torch.nn import Module
from torch.nn.parallel import DistributedDataParallel

from elf_lightning.training.base import TrainingModule

SETTINGS = {"find_unused_parameters": False, "gradient_as_bucket_view": True}
"""Each step uses all parameters, and gradients are not copied."""


class DDP(DDPStrategy):
    """Lightning's strategy, wrapping the module on the stream that trains it.

    Lightning does so on a stream of its own, as CUDA graphs would need: every gradient is then added on that
    stream, which waits for the other, and torch warns of it. Buffers are broadcast only for modules of other
    kinds, since those of a `TrainingModule` never change.
    """

    def _setup_model(self, model: Module) -> DistributedDataParallel:
        settings = {"broadcast_buffers": not isinstance(model, TrainingModule)} | self._ddp_kwargs
        return DistributedDataParallel(model, self.determine_ddp_device_ids(), **settings)


def register_ddp() -> None:
    """Make this the Trainer's `ddp`, which `auto` means with several devices, outside notebooks."""
    StrategyRegistry.register("ddp", DDP, "DDP with SETTINGS", override=True, **SETTINGS)
