"""Training on several devices."""

from lightning.pytorch.strategies import DDPStrategy
from torch.nn import Module
from torch.nn.parallel import DistributedDataParallel


class DDP(DDPStrategy):
    """Lightning's strategy, wrapping the module on the stream that trains it.

    Lightning wraps it on a separate stream, as recording whole steps in CUDA graphs would need: gradients are
    then accumulated on that stream, which waits for the other, and torch warns of it. Gradients are not
    copied. Buffers are broadcast only for modules of other kinds, since those of a `TrainingModule` never
    change.
    """

    def _setup_model(self, model: Module) -> DistributedDataParallel:
        from elf_lightning.training.base import TrainingModule  # which imports this module

        broadcast = not isinstance(model, TrainingModule)
        settings = {"broadcast_buffers": broadcast, "gradient_as_bucket_view": True} | self._ddp_kwargs
        return DistributedDataParallel(model, self.determine_ddp_device_ids(), **settings)
