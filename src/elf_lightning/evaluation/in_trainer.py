"""An evaluation inside a Trainer: scoring model, progress, table and report."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn
from rich import get_console
from rich.progress import Progress
from torch import Tensor

from elf_lightning.evaluation.evaluate import Evaluation
from elf_lightning.evaluation.identity import model_identity
from elf_lightning.evaluation.report import report_of
from elf_lightning.evaluation.results_file import JsonLines
from elf_lightning.evaluation.settings import EvaluationSettings
from elf_lightning.generation.text_generator import TextGenerator
from elf_lightning.metrics import MetricSuite
from elf_lightning.reporting import Scores, read_curves, report_page, score_table


class ModelEvaluation:
    """Measures the model of a running Trainer and leaves the results in the run's folder.

    Args:
        settings: what to measure.
        generator: makes the model's texts.
        description: what the model's texts follow from besides its weights, in plain types, and its `step`.

    Raises:
        UserError: if the scoring model cannot be loaded, or a package for text-to-text metrics is missing.
    """

    def __init__(
        self, settings: EvaluationSettings, generator: TextGenerator, description: Mapping[str, Any]
    ) -> None:
        self.settings = settings
        self.generator = generator
        self.description = description
        if generator.data.max_condition_length is None:
            self.suite = MetricSuite.unconditional(settings.scoring_model.load(), generator.device)
        else:
            self.suite = MetricSuite.text_to_text(generator.device)

    def run(self, trainer: Trainer) -> None:
        """Generate, score, show and write; all ranks together.

        Raises:
            UserError: if there is nothing to score, or a file of earlier results is spoilt.
        """
        _end_at_sigterm()
        if not self.description["step"]:
            rank_zero_warn("the model has not been trained; give a checkpoint with --ckpt_path")
        network = self.generator.network
        folder = Path(trainer.default_root_dir)
        ways = self.settings.ways(self.generator.settings)
        shown = trainer.is_global_zero and trainer.progress_bar_callback is not None
        with Progress(console=get_console(), transient=True, disable=not shown) as progress:
            task = progress.add_task("texts", total=None)
            evaluation = Evaluation(
                settings=self.settings,
                ways=ways,
                generator=self.generator,
                suite=self.suite,
                model=self._identity(network.state_dict(), str(trainer.precision)),
                samples=JsonLines(folder / "samples.jsonl"),
                numbers=JsonLines(folder / "metrics.jsonl"),
                provenance={
                    "checkpoint": str(trainer.ckpt_path or ""),
                    "step": self.description["step"],
                    "scoring_model": self.suite.scoring_model,
                },
                broadcast=trainer.strategy.broadcast,
                on_texts=lambda count: progress.advance(task, count),
            )
            progress.update(task, total=evaluation.num_samples * len(self.settings.seeds) * len(ways))
            rows = evaluation.run()
        if trainer.is_global_zero:
            self._tell(evaluation, rows, folder)

    def _identity(self, weights: Mapping[str, Tensor], precision: str) -> str:
        """Of the model and the data; ways of sampling have their own names."""
        follows_from = {name: value for name, value in self.description.items() if name != "sampling"}
        rows = self.generator.data.preparation.key
        return model_identity(weights, {**follows_from, "rows": rows, "precision": precision})

    def _tell(self, evaluation: Evaluation, rows: list[Scores], folder: Path) -> None:
        console, page = get_console(), folder / "report.html"
        console.print(score_table(rows, self.suite.scoring_model, self.suite.notes))
        report = report_of(evaluation, rows, folder.name, self._details(evaluation), read_curves(folder))
        page.write_text(report_page(report), encoding="utf-8")
        for path in (page, evaluation.numbers.path, evaluation.samples.path):
            console.print(f"written: {path}", style="dim", soft_wrap=True)

    def _details(self, evaluation: Evaluation) -> dict[str, str]:
        """What the numbers follow from."""
        network = self.generator.network
        parameters = sum(weight.numel() for weight in network.parameters())
        told = {
            "model": f"{parameters / 1e6:.1f}M parameters, {self.description['step']} training steps",
            "checkpoint": evaluation.provenance["checkpoint"],
            "scoring_model": self.suite.scoring_model or "",
            "texts": f"{evaluation.num_samples} for each of the seeds "
            f"{', '.join(map(str, self.settings.seeds))}, up to {network.max_length} tokens",
        }
        return {name: value for name, value in told.items() if value}


def _end_at_sigterm() -> None:
    """Take SIGTERM for Ctrl-C until the Trainer puts the handlers back that it found.

    The Trainer's own only makes a note, for training to end with a checkpoint; here all is written already.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
