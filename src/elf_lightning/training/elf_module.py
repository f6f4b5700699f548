"""ELF as published: flow matching with guided self-conditioning, and decoding by the same network."""

from torch import Tensor

from elf_lightning.batch import LatentBatch
from elf_lightning.training.base import TrainingModule


class ELFModule(TrainingModule):
    """Trains the shared denoiser/decoder (arXiv 2605.10938, section 3): draw, loss, log.

    The arguments are those of `TrainingModule`.
    """

    def training_step(self, batch: LatentBatch, batch_idx: int) -> Tensor:
        """Loss of one micro-batch, ()."""
        draws = self.draw(batch, batch_idx)
        losses = self.objective(self.network, batch, draws, self.unknown_id)
        self.log_losses(losses, draws, len(batch))
        return losses.total
