"""Training on several devices."""

from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from torch.nn import Module
from torch.nn.parallel import DistributedDataParallel

SETTINGS = {"find_unused_parameters": False, "broadcast_buffers": False, "gradient_as_bucket_view": True}
"""Each step uses all parameters, no buffer changes, gradients are not copied."""


class DDP(DDPStrategy):
    """Lightning's strategy, wrapping the module on the stream that trains it.

    Lightning does so on a stream of its own, as CUDA graphs would need: every gradient is then added on that
    stream, which waits for the other, and torch warns of it.
    """

    def _setup_model(self, model: Module) -> DistributedDataParallel:
        return DistributedDataParallel(model, self.determine_ddp_device_ids(), **self._ddp_kwargs)


def register_ddp() -> None:
    """Make this the Trainer's `ddp`, which is also what `auto` means with several devices."""
    StrategyRegistry.register("ddp", DDP, "DDP with SETTINGS", override=True, **SETTINGS)
