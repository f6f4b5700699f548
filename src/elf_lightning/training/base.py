"""What the modules of all objectives share."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import torch
from lightning.pytorch.callbacks import LearningRateFinder
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig

from elf_lightning.batch import LatentBatch, LatentPromptBatch
from elf_lightning.checkpoints import ELFConfig, load_model
from elf_lightning.codec import TextCodec
from elf_lightning.data import ELFDataModule
from elf_lightning.errors import UserError
from elf_lightning.evaluation import EvaluationSettings
from elf_lightning.flow import seeded_generator
from elf_lightning.generation import Request, TextGenerator, requests_from_data
from elf_lightning.network import ELFNetwork, NetworkConfig
from elf_lightning.network.compiling import require_compiler
from elf_lightning.network.flops import training_step_flops
from elf_lightning.objectives import Draws, ELFObjective, Losses, StepKey
from elf_lightning.optim import MuonSettings, OptimizerSettings, Schedule, scaled_learning_rate
from elf_lightning.ranks import sum_over_ranks
from elf_lightning.sampling import SamplingSettings
from elf_lightning.sampling.settings import DEFAULT_TRAJECTORIES
from elf_lightning.training.guard import GuardedModule, NonFinite
from elf_lightning.training.loop_counters import set_loop_counters
from elf_lightning.training.validation import ValidationMetrics
from elf_lightning.training.warm_start import check_latents, warm_start

SIZES_FROM_DATA = ("latent_size", "vocab_size", "max_length", "eos_id", "pad_id", "unknown_id")
"""Arguments of `TrainingModule` that follow from its data: never typed twice."""


@runtime_checkable
class TextData(Protocol):
    """What a DataModule must have to train a model on it; its batches are `LatentBatch`es."""

    batch_size: int

    @property
    def codec(self) -> TextCodec:
        """What its ids and latents mean."""


class TrainingModule(GuardedModule):
    """Network, optimizer, validation, checkpoints and text generation: all but the training step.

    A subclass defines `training_step`. The DataModule encodes (in `on_after_batch_transfer`, on the
    device), so batches arrive with latents.

    Args:
        latent_size: C; the command line links it from the DataModule, as all arguments up to `unknown_id`.
        vocab_size: V, tokens that the token head tells apart.
        max_length: longest sequence, S.
        eos_id: token at which decoded text ends.
        pad_id: token that fills sequences.
        unknown_id: token that stands for all those outside a restricted vocabulary; never counts as correct.
        network: width, depth and the like.
        objective: path and distributions of the random draws; validation measures its losses.
        optimizer: MuonSettings (default) or AdamWSettings, with the base learning rate.
        schedule: warm-up and decay.
        sampling: defaults for `predict` and `elf sample`, kept in checkpoints.
        evaluation: what `test` measures, besides the losses.
        init_from: a checkpoint in any format, a run's folder or a Hub id, whose weights to start from.
        non_finite: what to do about a step whose loss or gradient is not finite: `stop` training, or `skip`
            the step at the price of waiting for the device in every step.
        seed: of initial values, training draws and samples; by default 0, and on the command line that of
            `seed_everything`.
        compile: run the network's blocks through `torch.compile`, which needs a C++ compiler on a CPU, Triton
            on a GPU.

    Raises:
        UserError: for settings or a checkpoint that cannot be used.
    """

    def __init__(
        self,
        latent_size: int,
        vocab_size: int,
        max_length: int,
        eos_id: int,
        pad_id: int,
        unknown_id: int | None = None,
        network: NetworkConfig = NetworkConfig(),
        objective: ELFObjective = ELFObjective(),
        optimizer: OptimizerSettings = MuonSettings(),
        schedule: Schedule = Schedule(),
        sampling: SamplingSettings = SamplingSettings(),
        evaluation: EvaluationSettings = EvaluationSettings(),
        init_from: str | None = None,
        non_finite: NonFinite = "stop",
        seed: int | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(non_finite)
        self.seed = seed or 0
        initial = seeded_generator("initial values", self.seed)
        self.network = ELFNetwork(network, latent_size, vocab_size, max_length, initial)
        self.objective = objective
        self.optimizer = optimizer
        self.schedule = schedule
        self.sampling = sampling
        self.evaluation = evaluation
        self.eos_id = eos_id
        self.pad_id = pad_id
        self.unknown_id = unknown_id
        self.validation_metrics = ValidationMetrics(unknown_id)
        self._init_codec = warm_start(self.network, init_from) if init_from else None
        self._checkpoint: ELFConfig | None = None
        self._compiled = compile
        if compile:
            self.network.compile()

    # Construction

    @classmethod
    def for_data(cls, data: ELFDataModule, **settings: Any) -> Self:
        """A module with the sizes of `data`; `settings` are this class's other arguments."""
        return cls(**{size: getattr(data, size) for size in SIZES_FROM_DATA}, **settings)

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: str | Path, map_location: torch.device | str | None = None, **settings: Any
    ) -> Self:
        """A module with the averaged weights of a checkpoint in any format that `load_model` reads.

        Args:
            checkpoint_path: a file, a run's folder, a Hub folder or a Hub id.
            map_location: device to bring the module to.
            settings: this class's arguments, in place of what the checkpoint says.

        Raises:
            UserError: if the checkpoint cannot be read, does not name its tokenizer, or holds another network
                than `settings` ask for.
        """
        bundle = load_model(checkpoint_path)
        config, codec = bundle.config, bundle.config.codec
        if codec is None:
            raise UserError(
                f"checkpoint '{checkpoint_path}' does not name its tokenizer and encoder; build the module "
                "with `for_data` and give the checkpoint as `init_from`"
            )
        stored = {
            "latent_size": config.latent_size,
            "vocab_size": config.vocab_size,
            "max_length": config.max_length,
            "eos_id": codec.eos_id,
            "pad_id": codec.pad_id,
            "unknown_id": codec.unknown_id,
            "network": config.network,
            "objective": ELFObjective(path=config.path, times=config.times),
            "sampling": config.default_sampling,
        }
        module = cls(**stored | settings)
        config.check_network(module.network)
        module.network.load_state_dict(bundle.weights)
        module._checkpoint = config
        return module if map_location is None else module.to(map_location)

    def setup(self, stage: str) -> None:
        """Check that the Trainer can train this module.

        Raises:
            UserError: if compiling is asked for and there is no compiler, or with a LearningRateFinder.
        """
        if self._compiled:
            require_compiler("model.compile", self.trainer.strategy.root_device)
        if any(isinstance(one, LearningRateFinder) for one in self.trainer.callbacks):  # type: ignore[attr-defined]
            raise UserError(
                "LearningRateFinder: it replaces the schedule, which the warm-up of Muon depends on; compare "
                "short runs with different values of model.optimizer.base_learning_rate instead"
            )

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """One optimizer, stepped by Lightning, and its schedule, which advances every step.

        Raises:
            UserError: without a DataModule, or for a schedule that does not fit the run.
        """
        trainer = self.trainer
        self._configured_rate = self._peak_learning_rate()
        optimizer = self.optimizer.build(self.network, self._configured_rate)
        total_steps = trainer.estimated_stepping_batches
        trainer.fit_loop.setup_data()  # as the line above does, but for runs without a number of epochs
        steps_per_epoch = ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        scheduler = self.schedule.build(optimizer, total_steps, steps_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_start(self) -> None:
        """Build optimizer and schedule anew where a BatchSizeFinder has changed the batch since."""
        if self.global_step == 0 and self._peak_learning_rate() != self._configured_rate:
            self.trainer.strategy.setup_optimizers(self.trainer)

    def _peak_learning_rate(self) -> float:
        """The base learning rate, scaled by the global batch."""
        trainer, data = self.trainer, self._data()
        if data is None:
            raise UserError(
                f"{type(self).__name__} trains on a DataModule with `codec` and `batch_size`, such as "
                "ELFDataModule; pass one to the Trainer as `datamodule`"
            )
        sequences = data.batch_size * trainer.world_size * trainer.accumulate_grad_batches
        return scaled_learning_rate(self.optimizer.base_learning_rate, sequences)

    # Training

    def on_fit_start(self) -> None:
        """Check that the weights to start from fit the data."""
        super().on_fit_start()
        if self._init_codec is not None and (codec := self.codec) is not None:
            check_latents(self._init_codec, codec)

    def draw(self, batch: LatentBatch, batch_idx: int) -> Draws:
        """The random numbers of a training step, and the seed of its dropout."""
        if self.network.config.dropout > 0:
            # Dropout only knows the global generators, which no checkpoint holds.
            place = seeded_generator("dropout", self.seed, self.current_epoch, batch_idx, self.global_rank)
            torch.manual_seed(place.initial_seed())
        key = StepKey(self.seed, self.current_epoch, batch_idx, self.global_rank)
        return self.objective.draw(batch.latents.shape, key, batch.latents.device)

    def log_losses(self, losses: Losses, draws: Draws, batch_size: int) -> None:
        """Log a step's losses under `train/…`; those of all ranks where a logger writes this step."""
        trainer = self.trainer
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if trainer.world_size > 1 and every > 0 and (self.global_step + 1) % every == 0:
            losses = losses.over_ranks(sum_over_ranks, trainer.world_size)
        # Not `prog_bar`: Lightning would wait for the device in every step.
        self.log_dict(losses.named("train", draws), batch_size=batch_size)

    def training_flops(self, batch_size: int, length: int) -> float:
        """FLOPs of a micro-batch, forward and backward, averaged over the draws."""
        counts = self.objective.mean_counts(batch_size)
        return training_step_flops(self.network, batch_size, length, *counts)

    # Validation, test and prediction

    def validation_step(self, batch: LatentBatch, batch_idx: int) -> None:
        """Losses and decode accuracies of validation sequences, at draws that are the same every time."""
        key = StepKey(self.seed, "held out", batch_idx, self.global_rank)
        draws = self.objective.draw(batch.latents.shape, key, batch.latents.device)
        losses = self.objective.evaluate(self.network, batch, draws, self.unknown_id)
        decoded = self.network.decode_tokens(batch.latents, draws.guidance)
        self.validation_metrics.update(losses, decoded, batch)
        self.log_dict(self.validation_metrics.named())

    def test_step(self, batch: LatentBatch, batch_idx: int) -> None:
        """The same as `validation_step`; texts are generated and scored after the last batch."""
        self.validation_step(batch, batch_idx)

    def on_test_start(self) -> None:
        """Load the scoring model, so that a missing one is reported before anything is generated."""
        from elf_lightning.evaluation.in_trainer import evaluation_in

        self._evaluation = evaluation_in(self.trainer, self.text_generator(), self.evaluation)

    def on_test_epoch_end(self) -> None:
        """Generate and score texts; the results are written to the run's folder."""
        self._evaluation.run()

    def on_test_end(self) -> None:
        """Drop the scoring model, which an average of this module would copy."""
        del self._evaluation

    def on_predict_start(self) -> None:
        """Build the generator, and measure repetition if it is to be controlled."""
        self._generator = self.text_generator()
        if self._generator.needs_measuring():
            self._generator.measure_repetition(self.text_requests(DEFAULT_TRAJECTORIES))

    def predict_step(self, batch: LatentPromptBatch, batch_idx: int) -> list[dict[str, Any]]:
        """A record `index, seed, text, tokens` for each prompt, with this module's sampling settings."""
        return [sample.record() for sample in self._generator.sample_batch(batch, self.seed)]

    def on_predict_end(self) -> None:
        """Drop what an average of this module would copy."""
        del self._generator

    def text_generator(self) -> TextGenerator:
        """Generates texts with the weights that the module holds, on all ranks together.

        Raises:
            UserError: without a DataModule or a checkpoint that says what ids and latents mean.
        """
        if self.codec is None:
            raise UserError(
                f"{type(self).__name__} generates with an ELFDataModule; pass the Trainer a `datamodule`"
            )
        trainer = self.trainer
        return TextGenerator(
            self.network,
            self.config,
            trainer.precision_plugin.forward_context,
            distributed=trainer.world_size > 1,
        )

    def text_requests(self, num: int) -> list[Request]:
        """Requests for `num` texts; in text-to-text tasks, to answer at most `num` validation conditions."""
        data = self._data()
        if not isinstance(data, ELFDataModule) or data.max_condition_length is None:
            return [Request(index) for index in range(num)]
        count = min(num, len(data.preparation.examples("validation")))
        return requests_from_data(data, range(count))

    # Checkpoints

    @property
    def codec(self) -> TextCodec | None:
        """What ids and latents mean: from the DataModule, else from the checkpoint that was loaded."""
        data = self._data()
        if data is not None:
            return data.codec
        return None if self._checkpoint is None else self._checkpoint.codec

    @property
    def config(self) -> ELFConfig:
        """What checkpoints say about this model."""
        loaded = 0 if self._checkpoint is None else self._checkpoint.step
        return ELFConfig(
            network=self.network.config,
            latent_size=self.network.latent_size,
            vocab_size=self.network.vocab_size,
            max_length=self.network.max_length,
            path=self.objective.path,
            times=self.objective.times,
            sampling=self.sampling,
            codec=self.codec,
            step=self.global_step or loaded,
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store all that sampling needs, in plain types, so that it needs no configuration."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["elf"] = replace(self.config, step=self.global_step).to_dict()
        data = self._data()
        if isinstance(data, ELFDataModule) and (position := data.reached()) is not None:
            batches = int(self.trainer.num_training_batches)
            set_loop_counters(checkpoint["loops"]["fit_loop"], position, batches, self.global_step)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another network, or of data whose latents or ids mean something else.

        Raises:
            UserError: in one line, if it does not belong to this module and its DataModule.
        """
        super().on_load_checkpoint(checkpoint)
        if "elf" not in checkpoint:
            raise UserError("the checkpoint was not written by elf_lightning: it has no entry 'elf'")
        stored = ELFConfig.from_dict(checkpoint["elf"])
        stored.check_network(self.network)
        data = self._data()
        if data is not None and stored.codec is not None:
            stored.codec.check_compatible(data.codec)
        self._checkpoint = stored

    def _data(self) -> TextData | None:
        data = getattr(self._trainer, "datamodule", None)
        return data if isinstance(data, TextData) else None
