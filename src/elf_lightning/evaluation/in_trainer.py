"""Evaluation within a Trainer."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

from elf_lightning.data import ELFDataModule
from elf_lightning.evaluation.evaluate import Evaluation
from elf_lightning.evaluation.references import ReferenceTexts
from elf_lightning.evaluation.settings import EvaluationSettings
from elf_lightning.generation import TextGenerator


def evaluation_in(trainer: Trainer, generator: TextGenerator, settings: EvaluationSettings) -> Evaluation:
    """The evaluation of a running Trainer's model, with results in the run's folder; errors as `Evaluation`.

    Until the Trainer restores the previous signal handlers, SIGTERM acts as Ctrl-C: results are saved
    immediately, and the Trainer's own handler would only wait for the end of a training step.
    """
    if not generator.config.step:
        rank_zero_warn("the model is not trained; give a checkpoint with --ckpt_path")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    data = trainer.datamodule  # type: ignore[attr-defined]
    references = ReferenceTexts(data) if isinstance(data, ELFDataModule) else None
    folder, checkpoint = Path(trainer.default_root_dir), str(trainer.ckpt_path or "")
    shown = trainer.progress_bar_callback is not None
    return Evaluation(generator, settings, folder, references, checkpoint, str(trainer.precision), shown)
