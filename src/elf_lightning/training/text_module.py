"""What a module does with a network besides training it: checkpoints, texts, evaluation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from elf_lightning.batch import LatentPromptBatch
from elf_lightning.checkpoints import ELFConfig
from elf_lightning.codec import TextCodec
from elf_lightning.data import ELFDataModule
from elf_lightning.errors import UserError
from elf_lightning.evaluation import EvaluationSettings
from elf_lightning.generation import Request, TextGenerator, requests_from_data
from elf_lightning.network import ELFNetwork
from elf_lightning.objectives import ELFObjective
from elf_lightning.sampling import SamplingSettings
from elf_lightning.sampling.settings import DEFAULT_TRAJECTORIES
from elf_lightning.training.guard import GuardedModule
from elf_lightning.training.loop_counters import set_loop_counters


@runtime_checkable
class TextData(Protocol):
    """A DataModule to train on; its batches are `LatentBatch`es."""

    batch_size: int

    @property
    def codec(self) -> TextCodec:
        """The meaning of its ids and latents."""


class TextModule(GuardedModule):
    """Writes its configuration into checkpoints, generates texts (`predict`) and evaluates them (`test`).

    Attributes:
        network: the denoiser and decoder.
        objective: its path and times are part of the configuration.
        sampling: default sampling settings.
        evaluation: what `test` measures besides the losses.
        seed: of generated texts.
    """

    network: ELFNetwork
    objective: ELFObjective
    sampling: SamplingSettings
    evaluation: EvaluationSettings
    seed: int
    loaded: ELFConfig | None = None
    """Configuration of the checkpoint that the weights were loaded from."""

    @property
    def text_data(self) -> TextData | None:
        """The DataModule of the Trainer, if it has the meaning of ids and latents."""
        data = getattr(self._trainer, "datamodule", None)
        return data if isinstance(data, TextData) else None

    @property
    def codec(self) -> TextCodec | None:
        """The meaning of ids and latents: from the DataModule, otherwise from the loaded checkpoint."""
        if (data := self.text_data) is not None:
            return data.codec
        return None if self.loaded is None else self.loaded.codec

    @property
    def config(self) -> ELFConfig:
        """The model's description, as stored in checkpoints."""
        return ELFConfig(
            network=self.network.config,
            latent_size=self.network.latent_size,
            vocab_size=self.network.vocab_size,
            max_length=self.network.max_length,
            path=self.objective.path,
            times=self.objective.times,
            sampling=self.sampling,
            codec=self.codec,
            step=self.global_step or (self.loaded.step if self.loaded else 0),
        )

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add everything that sampling needs, in plain types, so that it needs no configuration file."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["elf"] = replace(self.config, step=self.global_step).to_dict()
        data = self.text_data
        if isinstance(data, ELFDataModule) and (position := data.reached()) is not None:
            batches = int(self.trainer.num_training_batches)
            set_loop_counters(checkpoint["loops"]["fit_loop"], position, batches, self.global_step)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another network, or of data whose ids or latents have another meaning.

        Raises:
            UserError: if the checkpoint does not fit this module and its DataModule.
        """
        super().on_load_checkpoint(checkpoint)
        if "elf" not in checkpoint:
            raise UserError(
                "the checkpoint has no entry 'elf', so it was not written by elf_lightning; give one that was"
            )
        stored = ELFConfig.from_dict(checkpoint["elf"])
        stored.check_network(self.network)
        if (data := self.text_data) is not None and stored.codec is not None:
            stored.codec.check_compatible(data.codec)
        self.loaded = stored

    # Texts

    def text_generator(self) -> TextGenerator:
        """A generator with the current weights; all ranks share the work.

        Raises:
            UserError: without a codec, from a DataModule or a checkpoint.
        """
        if self.codec is None:
            raise UserError(
                f"{type(self).__name__} cannot generate texts without the tokenizer of its data; pass an "
                "ELFDataModule to the Trainer as `datamodule`"
            )
        context = self.trainer.precision_plugin.forward_context
        return TextGenerator(self.network, self.config, context, distributed=self.trainer.world_size > 1)

    def text_requests(self, num: int) -> list[Request]:
        """Requests for `num` texts; in text-to-text tasks, for at most `num` validation conditions."""
        data = self.text_data if isinstance(self.text_data, ELFDataModule) else None
        if data is not None and data.max_condition_length is not None:
            num = min(num, len(data.preparation.examples("validation")))
        return requests_from_data(data, range(num))

    def on_predict_start(self) -> None:
        """Create the generator, and measure repetition if it is to be controlled."""
        self._generator = self.text_generator()
        if self._generator.needs_measuring():
            self._generator.measure_repetition(self.text_requests(DEFAULT_TRAJECTORIES))

    def predict_step(self, batch: LatentPromptBatch, batch_idx: int) -> list[dict[str, Any]]:
        """A record `index, seed, text, tokens` for each prompt, with this module's sampling settings."""
        return [sample.record() for sample in self._generator.sample_batch(batch, self.seed)]

    def on_predict_end(self) -> None:
        """Delete the generator, which averaging would copy with this module."""
        del self._generator

    # Evaluation

    def on_test_start(self) -> None:
        """Load the scoring model, so that a missing one is reported before any text is generated."""
        from elf_lightning.evaluation.in_trainer import evaluation_in

        self._evaluation = evaluation_in(self.trainer, self.text_generator(), self.evaluation)

    def on_test_epoch_end(self) -> None:
        """Generate and score texts; the results are written to the run's folder."""
        self._evaluation.run()

    def on_test_end(self) -> None:
        """Delete the scoring model, which averaging would copy with this module."""
        del self._evaluation
