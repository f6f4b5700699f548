"""How good samples are while a model trains."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from elf_lightning.callbacks.periodic_texts import PeriodicTexts
from elf_lightning.generation import Sample
from elf_lightning.metrics import MetricSuite, ScoringModel, ScoringModelSettings
from elf_lightning.sampling import SamplingSettings


class GenerativePerplexityCallback(PeriodicTexts):
    """Logs `val/gen_ppl` with `val/entropy`, `val/repetition`, `val/overlap` and `val/distinct` of samples.

    A perplexity alone would prefer repetition. The values can be monitored by ModelCheckpoint and
    EarlyStopping. Numbers of few samples are rough, and those of different scoring models do not compare.

    Args:
        every_n_steps: as in `PeriodicTexts`, as are all others but the last two.
        every_n_epochs: in place of steps.
        num_samples: texts.
        seed: of the texts.
        settings: how to sample.
        batch_size: texts sampled at once.
        scoring_model: who scoring models; loaded once, when training starts, on every rank.
        offload: keep the scoring model in the host's memory between uses.

    Raises:
        UserError: as `PeriodicTexts`; when training starts, if the scoring model cannot be loaded.
    """

    def __init__(
        self,
        every_n_steps: int | None = None,
        every_n_epochs: int | None = None,
        num_samples: int = 64,
        seed: int = 0,
        settings: SamplingSettings | None = None,
        batch_size: int = 32,
        scoring_model: ScoringModelSettings = ScoringModelSettings(),
        offload: bool = False,
    ) -> None:
        super().__init__(every_n_steps, every_n_epochs, num_samples, seed, settings, batch_size)
        self.scoring_model = scoring_model
        self.offload = offload
        self._scoring_model: ScoringModel | None = None
        self._suite: MetricSuite | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load the scoring_model.

        Raises:
            UserError: if it cannot be loaded.
        """
        super().on_fit_start(trainer, pl_module)
        if self._scoring_model is None:
            self._scoring_model = self.scoring_model.load()
        self._suite = MetricSuite.unconditional(self._scoring_model, pl_module.device)

    def use(self, texts: Sequence[Sample], trainer: Trainer, pl_module: LightningModule) -> None:
        """ScoringModel the texts, every rank its share, and log the numbers of all."""
        assert self._scoring_model is not None and self._suite is not None
        written = [text.text for text in texts]
        if not any(text.strip() for text in written):
            rank_zero_warn(f"all {len(written)} samples at step {trainer.global_step} are empty: not scored")
            return
        numbers = self._suite(written[trainer.global_rank :: trainer.world_size])
        if self.offload:
            self._scoring_model.to("cpu")
        values = {f"val/{name}": value for name, value in numbers.items()}
        # To the loggers at once: Lightning would drop what falls between its own logging steps.
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step - 1)
        pl_module.log_dict(values, logger=False)
