"""Metrics of the validation set."""

from __future__ import annotations

from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric

from elf_lightning.batch import LatentBatch
from elf_lightning.metrics import DecodeAccuracy
from elf_lightning.objectives import Losses


class ValidationMetrics(nn.Module):
    """Losses and decode accuracies over all validation sequences and ranks.

    Args:
        unknown_id: token that never counts as correct; None with a full vocabulary.
    """

    def __init__(self, unknown_id: int | None) -> None:
        super().__init__()
        self.loss = MeanMetric()
        self.denoise_loss = MeanMetric()
        self.decode_loss = MeanMetric()
        self.decode_accuracy = MeanMetric()
        self.clean_decode_accuracy = DecodeAccuracy(unknown_id=unknown_id)

    def update(self, losses: Losses, decoded: Tensor, batch: LatentBatch) -> None:
        """Add a batch: its losses, and the tokens (B, S) decoded from its clean latents."""
        self.loss.update(losses.total, losses.decode_count)
        self.denoise_loss.update(losses.denoise, losses.denoise_count)
        self.decode_loss.update(losses.decode, losses.decode_count)
        self.decode_accuracy.update(losses.decode_accuracy, losses.decode_count)
        self.clean_decode_accuracy.update(decoded, batch.input_ids, batch.loss_mask)

    def named(self) -> dict[str, Metric]:
        """The metrics by their names in logs."""
        return {f"val/{name}": metric for name, metric in self.named_children() if isinstance(metric, Metric)}
