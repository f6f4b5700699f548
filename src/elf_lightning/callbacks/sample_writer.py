"""Writing the samples of `lightning predict`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.utilities import rank_zero_info

from elf_lightning.ranks import gathered


class SampleWriter(BasePredictionWriter):
    """Writes one JSONL file for all ranks, ordered by index: `index, seed, text, tokens` per line.

    Predictions other than records with an `index` are left to the Trainer.

    Args:
        output: the file; `predictions.jsonl` in the run's folder by default.
    """

    def __init__(self, output: Path | None = None) -> None:
        super().__init__(write_interval="batch")
        self.output = output
        self._records: list[dict[str, Any]] = []

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Keeps the records of the batch."""
        if isinstance(prediction, list):
            self._records += [one for one in prediction if isinstance(one, dict) and "index" in one]

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gathers the records of all ranks, without duplicates, and writes them on the first."""
        by_index = {record["index"]: record for record in gathered(self._records)}
        self._records = []
        if trainer.is_global_zero and by_index:
            output = self.output or Path(trainer.default_root_dir) / "predictions.jsonl"
            output.parent.mkdir(parents=True, exist_ok=True)
            lines = (json.dumps(by_index[index], ensure_ascii=False) for index in sorted(by_index))
            output.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            rank_zero_info(f"{len(by_index)} samples in {output}")
