"""Texts of a run: generated every few steps to be read or scored, and those of `elf predict`."""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng
from rich.table import Table
from rich.text import Text

from elf_lightning.callbacks.ema import EMA
from elf_lightning.errors import UserError
from elf_lightning.generation import Sample
from elf_lightning.metrics import MetricSuite, ScoringModel, ScoringModelSettings
from elf_lightning.ranks import gathered
from elf_lightning.sampling import SamplingSettings
from elf_lightning.terminal import get_console
from elf_lightning.whole_file import GrowingFile, json_lines, write_whole


class PeriodicTexts(Callback):
    """Generates the same numbered texts every few steps or epochs, on all ranks together.

    Needs a module with `text_generator()` and `text_requests(num)`, such as a `TrainingModule`. Uses averaged
    weights if there is an EMA callback. Global random generators are restored, so that a run has exactly the
    same losses with and without this callback.

    Args:
        every_n_steps: optimizer steps between generations.
        every_n_epochs: epochs between generations, instead of steps.
        num_samples: number of texts; in text-to-text tasks, of the first validation conditions.
        seed: of the noise, the same each time, so that texts can be compared.
        settings: sampling configuration; the module's own by default.
        batch_size: texts sampled at a time per device.
    """

    def __init__(
        self,
        every_n_steps: int | None = None,
        every_n_epochs: int | None = None,
        num_samples: int = 8,
        seed: int = 0,
        settings: SamplingSettings | None = None,
        batch_size: int = 32,
    ) -> None:
        self.every_n_steps, self.every_n_epochs = every_n_steps, every_n_epochs
        self.num_samples, self.batch_size = num_samples, batch_size
        self.seed, self.settings = seed, settings
        name = type(self).__name__
        if (every_n_steps is None) == (every_n_epochs is None):
            raise UserError(f"{name}: give either every_n_steps or every_n_epochs")
        for setting in ("every_n_steps", "every_n_epochs", "num_samples", "batch_size"):
            if (number := getattr(self, setting)) is not None and number < 1:
                raise UserError(f"{name}.{setting} is {number}; it must be at least 1")
        self._step = 0

    @abstractmethod
    def use(self, texts: Sequence[Sample], trainer: Trainer, pl_module: LightningModule) -> None:
        """Uses the texts; called on every rank with all of them."""

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Gets the module's generator; refuses a module without one, or impossible settings."""
        if not hasattr(pl_module, "text_generator"):
            name, module = type(self).__name__, type(pl_module).__name__
            raise UserError(f"{name}: {module} has no text_generator(); leave the callback out")
        self._generator = pl_module.text_generator()
        self._generator.check(self.settings)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts optimizer steps from the start of this run."""
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Generates after every `every_n_steps`-th optimizer step."""
        stepped, self._step = trainer.global_step != self._step, trainer.global_step
        if stepped and self.every_n_steps is not None and self._step % self.every_n_steps == 0:
            self._generate(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Generates after every `every_n_epochs`-th epoch."""
        if self.every_n_epochs is not None and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._generate(trainer, pl_module)

    def _generate(self, trainer: Trainer, pl_module: Any) -> None:
        with isolate_rng(), torch.no_grad(), ExitStack() as stack:
            for one in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(one, EMA):
                    stack.enter_context(one.average_weights(pl_module))
            requests = pl_module.text_requests(self.num_samples)
            batches = self._generator.generate(requests, self.seed, self.settings, self.batch_size)
            self.use([text for batch in batches for text in batch], trainer, pl_module)


class SampleLogger(PeriodicTexts):
    """Shows and saves a few texts every few steps, from the same noise each time.

    They are printed as a table, logged to TensorBoard and W&B if these log the run, and written to
    `samples/step-<step>.jsonl` in the run's folder, with `step, index, seed, text, tokens` per line.

    Args:
        num_samples: number of texts.
        show: print the table.
        settings: as in `PeriodicTexts`.
    """

    def __init__(self, num_samples: int = 4, show: bool = True, **settings: Any) -> None:
        super().__init__(num_samples=num_samples, **settings)
        self.show = show

    def use(self, texts: Sequence[Sample], trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows and saves the texts, on the first rank."""
        if not trainer.is_global_zero:
            return
        step = trainer.global_step
        path = Path(trainer.default_root_dir) / "samples" / f"step-{step:07d}.jsonl"
        try:
            write_whole(path, json_lines({"step": step, **text.record()} for text in texts))
        except UserError as error:
            rank_zero_warn(f"{error}; training goes on")
        rows = [[str(text.index), text.text] for text in texts]
        if self.show:
            table = Table("", f"samples at step {step:,}", show_lines=True)
            for index, content in rows:
                table.add_row(index, Text(content))
            get_console().print(table)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                content = "\n\n".join(f"**{index}** {text}" for index, text in rows)
                logger.experiment.add_text("samples", content, step)
            elif isinstance(logger, WandbLogger):
                logger.log_text("samples", columns=["index", "text"], data=rows, step=step)


class GenerativePerplexityCallback(PeriodicTexts):
    """Logs `val/gen_ppl`, `val/entropy`, `val/repetition`, `val/overlap` and `val/distinct` of samples.

    Perplexity alone would favour repetition. The values can be monitored by ModelCheckpoint and
    EarlyStopping. Numbers of few samples are rough, and those of different scoring models are not comparable.

    Args:
        num_samples: number of texts.
        scoring_model: the model that scores the samples; loaded once per rank when training starts.
        offload: keep the scoring model in host memory between uses.
        prefix: of the metrics' names; several of these callbacks need different ones.
        settings: as in `PeriodicTexts`.
    """

    def __init__(
        self,
        num_samples: int = 64,
        scoring_model: ScoringModelSettings = ScoringModelSettings(),
        offload: bool = False,
        prefix: str = "val",
        **settings: Any,
    ) -> None:
        super().__init__(num_samples=num_samples, **settings)
        self.prefix, self.scoring_model, self.offload = prefix, scoring_model, offload
        self._scoring_model: ScoringModel | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Loads the scoring model, so that a missing one is reported before training."""
        same = [one for one in trainer.callbacks if isinstance(one, type(self)) and one.prefix == self.prefix]  # type: ignore[attr-defined]
        if len(same) > 1:
            raise UserError(
                f"trainer.callbacks: two {type(self).__name__}s log {self.prefix}/gen_ppl; give one of them "
                "another prefix"
            )
        super().on_fit_start(trainer, pl_module)
        self._scoring_model = self._scoring_model or self.scoring_model.load()
        self._suite = MetricSuite.unconditional(self._scoring_model, pl_module.device)

    def use(self, texts: Sequence[Sample], trainer: Trainer, pl_module: LightningModule) -> None:
        """Scores the texts, split among the ranks, and logs the metrics of all of them."""
        if not any(text.text.strip() for text in texts):
            step = trainer.global_step
            rank_zero_warn(f"all {len(texts)} samples at step {step} are empty; they are not scored")
            return
        numbers = self._suite([text.text for text in texts[trainer.global_rank :: trainer.world_size]])
        if self.offload and self._scoring_model is not None:
            self._scoring_model.to("cpu")
        values = {f"{self.prefix}/{name}": value for name, value in numbers.items()}
        # Directly to the loggers: Lightning would drop values between its own logging steps.
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step - 1)
        pl_module.log_dict(values, logger=False)


class SampleWriter(BasePredictionWriter):
    """Writes one JSONL file for all ranks, ordered by index: `index, seed, text, tokens` per line.

    Until all are there, each rank keeps its own as batches come, in a file beside it, `….incomplete`.
    Predictions other than records with an `index` are left to the Trainer.

    Args:
        output: the file; `predictions.jsonl` in the run's folder by default.
    """

    def __init__(self, output: Path | None = None) -> None:
        super().__init__(write_interval="batch")
        self.output = output
        self._records: list[dict[str, Any]] = []
        self._file: GrowingFile | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the file, so that one that cannot be written is reported before any text is generated."""
        output = self.output or Path(trainer.default_root_dir) / "predictions.jsonl"
        if rank := trainer.global_rank:
            output = output.with_name(f"{output.name}.rank-{rank}")
        self._records, self._file = [], GrowingFile(output)

    def write_on_batch_end(self, trainer: Trainer, module: LightningModule, prediction: Any, *_: Any) -> None:
        """Keeps the records of the batch."""
        if isinstance(prediction, list) and self._file is not None:
            records = [one for one in prediction if isinstance(one, dict) and "index" in one]
            self._records += records
            self._file.append(records)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gathers the records of all ranks, without duplicates, and writes them on the first."""
        by_index = {record["index"]: record for record in gathered(self._records)}
        file, self._file = self._file, None
        assert file is not None
        if trainer.is_global_zero and by_index:
            if file.unfinished != file.path:  # otherwise they are where they belong, in the order they came
                write_whole(file.path, json_lines(by_index[index] for index in sorted(by_index)))
            rank_zero_info(f"{len(by_index)} samples in {file.path}")
        file.discard()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Says where the texts are that were generated before."""
        if self._file is not None and not isinstance(exception, UserError):
            self._file.leave()
