"""Texts generated periodically during training, without any effect on the training."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng

from elf_lightning.callbacks.ema import EMA
from elf_lightning.errors import UserError
from elf_lightning.generation import Request, Sample, TextGenerator
from elf_lightning.sampling import SamplingSettings


@runtime_checkable
class WritingModule(Protocol):
    """A LightningModule that generates text."""

    def text_generator(self) -> TextGenerator:
        """Its generator, which works on all ranks together."""

    def text_requests(self, num: int) -> list[Request]:
        """Requests for `num` texts, or for as many as there are conditions to answer."""


class PeriodicTexts(Callback):
    """Generates the same numbered texts every few steps or epochs, on all ranks together.

    Uses averaged weights if there is an EMA callback. Global random generators are restored, so that a run
    has exactly the same losses with and without this callback.

    Args:
        every_n_steps: optimizer steps between generations.
        every_n_epochs: epochs between generations, instead of steps.
        num_samples: number of texts; in text-to-text tasks, of the first validation conditions.
        seed: of the noise, the same each time, so that texts can be compared.
        settings: sampling configuration; the module's own by default.
        batch_size: texts sampled at a time per device.

    Raises:
        UserError: unless exactly one period is given, and all numbers are at least 1.
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
        super().__init__()
        name = type(self).__name__
        if (every_n_steps is None) == (every_n_epochs is None):
            raise UserError(f"{name}: give either every_n_steps or every_n_epochs")
        numbers = {
            "every_n_steps": every_n_steps,
            "every_n_epochs": every_n_epochs,
            "num_samples": num_samples,
            "batch_size": batch_size,
        }
        for setting, number in numbers.items():
            if number is not None and number < 1:
                raise UserError(f"{name}.{setting} is {number}; it must be at least 1")
        self.every_n_steps = every_n_steps
        self.every_n_epochs = every_n_epochs
        self.num_samples = num_samples
        self.seed = seed
        self.settings = settings
        self.batch_size = batch_size
        self._generator: TextGenerator | None = None
        self._step = 0

    @abstractmethod
    def use(self, texts: Sequence[Sample], trainer: Trainer, pl_module: LightningModule) -> None:
        """Uses the texts; called on every rank with all of them."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gets the module's generator.

        Raises:
            UserError: for a module that cannot generate text, or for impossible settings.
        """
        if not isinstance(pl_module, WritingModule):
            raise UserError(
                f"{type(self).__name__}: {type(pl_module).__name__} has no text_generator(); "
                "leave the callback out"
            )
        self._generator = pl_module.text_generator()
        self._generator.check(self.settings)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts optimizer steps from the start of this run."""
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Generates after every `every_n_steps`-th optimizer step."""
        if self.every_n_steps is None or trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        if self._step % self.every_n_steps == 0:
            self._generate(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Generates after every `every_n_epochs`-th epoch."""
        if self.every_n_epochs is not None and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._generate(trainer, pl_module)

    def _generate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._generator is not None and isinstance(pl_module, WritingModule)
        averages = [one for one in trainer.callbacks if isinstance(one, EMA)]  # type: ignore[attr-defined]
        with ExitStack() as stack:
            stack.enter_context(isolate_rng())
            stack.enter_context(torch.no_grad())
            for average in averages:
                stack.enter_context(average.average_weights(pl_module))
            requests = pl_module.text_requests(self.num_samples)
            batches = self._generator.generate(requests, self.seed, self.settings, self.batch_size)
            self.use([text for batch in batches for text in batch], trainer, pl_module)
