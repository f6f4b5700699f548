"""Samples to read while a model trains."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from rich import get_console
from rich.table import Table
from rich.text import Text as RichText

from elf_lightning.callbacks.periodic_texts import PeriodicTexts
from elf_lightning.generation import Sample
from elf_lightning.sampling import SamplingSettings


class SampleLogger(PeriodicTexts):
    """Shows and keeps a few texts every so many steps, from the same noise each time.

    They go to the terminal as a table, to TensorBoard and W&B where these log the run, and in any case to
    `samples/step-<step>.jsonl` in the run's folder: `step, index, seed, text, tokens` a line.

    Args:
        every_n_steps: as in `PeriodicTexts`, as are all others.
        every_n_epochs: in place of steps.
        num_samples: texts.
        seed: of the texts.
        settings: how to sample.
        batch_size: texts sampled at once.
        show: print the table.

    Raises:
        UserError: as `PeriodicTexts`.
    """

    def __init__(
        self,
        every_n_steps: int | None = None,
        every_n_epochs: int | None = None,
        num_samples: int = 4,
        seed: int = 0,
        settings: SamplingSettings | None = None,
        batch_size: int = 32,
        show: bool = True,
    ) -> None:
        super().__init__(every_n_steps, every_n_epochs, num_samples, seed, settings, batch_size)
        self.show = show

    def use(self, texts: Sequence[Sample], trainer: Trainer, pl_module: LightningModule) -> None:
        """Show and keep the texts, from the first rank."""
        if not trainer.is_global_zero:
            return
        step = trainer.global_step
        _keep(texts, step, Path(trainer.default_root_dir) / "samples" / f"step-{step:07d}.jsonl")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                told = "\n\n".join(f"**{text.index}** {text.text}" for text in texts)
                logger.experiment.add_text("samples", told, step)
            elif isinstance(logger, WandbLogger):
                rows = [[str(text.index), text.text] for text in texts]
                logger.log_text("samples", columns=["index", "text"], data=rows, step=step)
        if self.show:
            table = Table("", f"samples at step {step:,}", show_lines=True)
            for text in texts:
                table.add_row(str(text.index), RichText(text.text))
            get_console().print(table)


def _keep(texts: Sequence[Sample], step: int, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ({"step": step, **text.record()} for text in texts)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
