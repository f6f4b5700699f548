"""Metrics of samples during training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from elf_lightning.callbacks.periodic_texts import PeriodicTexts
from elf_lightning.generation import Sample
from elf_lightning.metrics import MetricSuite, ScoringModel, ScoringModelSettings


class GenerativePerplexityCallback(PeriodicTexts):
    """Logs `val/gen_ppl` with `val/entropy`, `val/repetition`, `val/overlap` and `val/distinct` of samples.

    Perplexity alone would favour repetition. The values can be monitored by ModelCheckpoint and
    EarlyStopping. Numbers of few samples are rough, and those of different scoring models are not comparable.

    Args:
        num_samples: number of texts.
        scoring_model: the model that scores the samples; loaded once per rank when training starts.
        offload: keep the scoring model in host memory between uses.
        settings: as in `PeriodicTexts`.

    Raises:
        UserError: as `PeriodicTexts`; when training starts, if the scoring model cannot be loaded.
    """

    def __init__(
        self,
        num_samples: int = 64,
        scoring_model: ScoringModelSettings = ScoringModelSettings(),
        offload: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(num_samples=num_samples, **settings)
        self.scoring_model = scoring_model
        self.offload = offload
        self._scoring_model: ScoringModel | None = None
        self._suite: MetricSuite | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Loads the scoring model.

        Raises:
            UserError: if it cannot be loaded.
        """
        super().on_fit_start(trainer, pl_module)
        if self._scoring_model is None:
            self._scoring_model = self.scoring_model.load()
        self._suite = MetricSuite.unconditional(self._scoring_model, pl_module.device)

    def use(self, texts: Sequence[Sample], trainer: Trainer, pl_module: LightningModule) -> None:
        """Scores the texts, split among the ranks, and logs the metrics of all of them."""
        assert self._scoring_model is not None and self._suite is not None
        written = [text.text for text in texts]
        if not any(text.strip() for text in written):
            rank_zero_warn(
                f"all {len(written)} samples at step {trainer.global_step} are empty; they are not scored"
            )
            return
        numbers = self._suite(written[trainer.global_rank :: trainer.world_size])
        if self.offload:
            self._scoring_model.to("cpu")
        values = {f"val/{name}": value for name, value in numbers.items()}
        # Directly to the loggers: Lightning would drop values between its own logging steps.
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step - 1)
        pl_module.log_dict(values, logger=False)
