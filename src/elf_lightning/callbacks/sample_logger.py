"""Samples to read during training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from rich import get_console
from rich.table import Table
from rich.text import Text as RichText

from elf_lightning.callbacks.periodic_texts import PeriodicTexts
from elf_lightning.generation import Sample


class SampleLogger(PeriodicTexts):
    """Shows and saves a few texts every few steps, from the same noise each time.

    They are printed as a table, logged to TensorBoard and W&B if these log the run, and written to
    `samples/step-<step>.jsonl` in the run's folder, with `step, index, seed, text, tokens` per line.

    Args:
        num_samples: number of texts.
        show: print the table.
        settings: as in `PeriodicTexts`.

    Raises:
        UserError: as `PeriodicTexts`.
    """

    def __init__(self, num_samples: int = 4, show: bool = True, **settings: Any) -> None:
        super().__init__(num_samples=num_samples, **settings)
        self.show = show

    def use(self, texts: Sequence[Sample], trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows and saves the texts, on the first rank."""
        if not trainer.is_global_zero:
            return
        step = trainer.global_step
        _write(texts, step, Path(trainer.default_root_dir) / "samples" / f"step-{step:07d}.jsonl")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                content = "\n\n".join(f"**{text.index}** {text.text}" for text in texts)
                logger.experiment.add_text("samples", content, step)
            elif isinstance(logger, WandbLogger):
                rows = [[str(text.index), text.text] for text in texts]
                logger.log_text("samples", columns=["index", "text"], data=rows, step=step)
        if self.show:
            table = Table("", f"samples at step {step:,}", show_lines=True)
            for text in texts:
                table.add_row(str(text.index), RichText(text.text))
            get_console().print(table)


def _write(texts: Sequence[Sample], step: int, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ({"step": step, **text.record()} for text in texts)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
