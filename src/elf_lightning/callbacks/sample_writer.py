"""Writes what `lightning predict` generates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.utilities import rank_zero_info

from elf_lightning.ranks import gathered

Row = dict[str, Any]


class SampleWriter(BasePredictionWriter):
    """One JSONL file for all ranks, in the order of the rows: `index, seed, text, tokens` a line.

    Args:
        output: the file; `predictions.jsonl` in the run's folder by default.
    """

    def __init__(self, output: Path | None = None) -> None:
        super().__init__(write_interval="batch")
        self.output = output
        self._rows: list[Row] = []

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: list[Row],
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Keep the batch's rows."""
        self._rows.extend(prediction)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather the rows of all ranks, each once, and write them from the first."""
        by_index = {row["index"]: row for row in gathered(self._rows)}
        self._rows = []
        if trainer.is_global_zero:
            output = self.output or Path(trainer.default_root_dir) / "predictions.jsonl"
            output.parent.mkdir(parents=True, exist_ok=True)
            lines = (json.dumps(by_index[index], ensure_ascii=False) for index in sorted(by_index))
            output.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            rank_zero_info(f"{len(by_index)} samples in {output}")
