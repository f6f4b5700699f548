"""The LightningModule that trains, validates and samples ELF."""

from __future__ import annotations

from dataclasses import asdict
from math import ceil
from typing import Any, Self

import torch
import torch.distributed
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from elf_lightning.batch import LatentBatch, LatentPromptBatch
from elf_lightning.data import Detokenizer, ELFDataModule
from elf_lightning.errors import UserError
from elf_lightning.evaluation import EvaluationSettings, ModelEvaluation
from elf_lightning.flow import seeded_generator
from elf_lightning.generation.samples import samples_of
from elf_lightning.generation.text_generator import TextGenerator
from elf_lightning.network import ELFNetwork, NetworkConfig
from elf_lightning.network.compiling import require_compiler
from elf_lightning.network.flops import training_step_flops
from elf_lightning.objectives import Draws, ELFObjective, StepKey
from elf_lightning.optim import MuonSettings, OptimizerSettings, Schedule, scaled_learning_rate
from elf_lightning.sampling import Sampler, SamplingSettings
from elf_lightning.sampling.settings import DEFAULT_TRAJECTORIES
from elf_lightning.training.compatibility import check_decoding, check_network, network_description
from elf_lightning.training.guarded import GuardedModule, NonFinite
from elf_lightning.training.loop_counters import set_loop_counters
from elf_lightning.training.validation import ValidationMetrics
from elf_lightning.training.warm_start import check_latents, warm_start

SIZES_FROM_DATA = ("latent_size", "vocab_size", "max_length", "eos_id", "pad_id", "unknown_id")
"""Arguments of `ELFModule` that follow from its data: never typed twice."""


class ELFModule(GuardedModule):
    """Trains the shared denoiser/decoder: encode, draw, loss, log.

    The DataModule encodes (in `on_after_batch_transfer`, on the device), so batches arrive with latents.

    Args:
        latent_size: C; the command line links it from the DataModule, as all arguments up to `unknown_id`.
        vocab_size: V, tokens the token head tells apart.
        max_length: longest row.
        eos_id: token at which decoded text ends.
        pad_id: token that fills rows.
        unknown_id: token that stands for pieces outside a restricted vocabulary; never counts as recovered.
        network: width, depth and the like.
        objective: distributions of the random draws, and how rows are shared between the two modes.
        optimizer: `MuonSettings` (default) or `AdamWSettings`, with the base learning rate.
        schedule: warm-up and decay.
        sampling: defaults for `predict` and `elf sample`, kept in checkpoints.
        evaluation: what `test` measures, besides the losses.
        init_from: a checkpoint in any format, a run's folder or a Hub id, whose weights to begin with.
        non_finite: what to do about a step whose loss or gradient is not finite: `stop` training, or `skip`
            the step at the price of waiting for the device in every step.
        seed: of initial values, training draws and samples.
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
        seed: int = 0,
        compile: bool = False,
    ) -> None:
        super().__init__(non_finite)
        self.network = ELFNetwork(
            network, latent_size, vocab_size, max_length, seeded_generator("initial values", seed)
        )
        self._dropout = network.dropout > 0
        self._started_from = warm_start(self.network, init_from) if init_from else {}
        self.objective = objective
        self.optimizer = optimizer
        self.schedule = schedule
        self.sampling = sampling
        self.evaluation = evaluation
        self.seed = seed
        self.eos_id = eos_id
        self.pad_id = pad_id
        self.unknown_id = unknown_id
        self._decoding: dict[str, Any] = {}
        self._loaded_steps = 0
        self.validation = ValidationMetrics(unknown_id)
        self._compiled = compile
        if compile:
            self.network.compile()

    @classmethod
    def for_data(cls, data: ELFDataModule, **settings: Any) -> Self:
        """A module with the sizes of `data`; `settings` are this class's other arguments."""
        return cls(**{size: getattr(data, size) for size in SIZES_FROM_DATA}, **settings)

    def setup(self, stage: str) -> None:
        """See whether there is something that compiles for the Trainer's device.

        Raises:
            UserError: if it is asked for and there is none.
        """
        if self._compiled:
            require_compiler("model.compile", self.trainer.strategy.root_device)

    def on_fit_start(self) -> None:
        """See whether the weights to begin with fit the data."""
        super().on_fit_start()
        if self._started_from:
            check_latents(self._started_from, self.decoding_state())

    def training_step(self, batch: LatentBatch, batch_idx: int) -> Tensor:
        """Loss of one micro-batch, ()."""
        self._seed_dropout(batch_idx)
        draws = self._draw(batch, self.current_epoch, batch_idx)
        losses = self.objective(self.network, batch, draws, self.unknown_id)
        # Not `prog_bar`: Lightning would ask the device for each value in every step.
        logged = losses
        if self._logs_for_all_ranks():
            logged = losses.over_ranks(_sum_over_ranks, self.trainer.world_size)
        self.log_dict(logged.named("train", draws), batch_size=len(batch))
        return losses.total

    def training_flops(self, rows: int, length: int) -> float:
        """FLOPs of a micro-batch, forward and backward, on the average of the draws."""
        return training_step_flops(self.network, rows, length, *self.objective.mean_counts(rows))

    def validation_step(self, batch: LatentBatch, batch_idx: int) -> None:
        """Losses and decode accuracies of validation rows, at draws that stay the same for the whole run."""
        draws = self._draw(batch, "held out", batch_idx)
        losses = self.objective.evaluate(self.network, batch, draws, self.unknown_id)
        recovered = self.network.decode_tokens(batch.latents, draws.guidance)
        self.validation.update(losses, recovered, batch)
        self.log_dict(self.validation.named())

    def test_step(self, batch: LatentBatch, batch_idx: int) -> None:
        """The same as `validation_step`; texts are generated and scored when all batches are through."""
        self.validation_step(batch, batch_idx)

    def on_test_start(self) -> None:
        """Read the scoring model, so that one that is not there is told before anything is generated."""
        steps = self.global_step or self._loaded_steps
        description = self._description() | {"step": steps}
        generator = self.text_generator(DEFAULT_TRAJECTORIES)
        self._evaluation = ModelEvaluation(self.evaluation, generator, description)

    def on_test_epoch_end(self) -> None:
        """Generate and score texts; the results lie in the run's folder."""
        self._evaluation.run(self.trainer)

    def on_test_end(self) -> None:
        """Let go of the scoring model, which an average of this module would copy."""
        del self._evaluation

    def on_predict_start(self) -> None:
        """Read the tokenizer, and find out how to control repetition if that is wanted."""
        self._detokenizer = Detokenizer.from_state(self.decoding_state())
        if self.sampling.repetition_control:
            self._sampler = self.text_generator(DEFAULT_TRAJECTORIES).sampler_for(None, together=True)
        else:
            self._sampler = self.sampler()

    def predict_step(self, batch: LatentPromptBatch, batch_idx: int) -> list[dict[str, Any]]:
        """Texts for the prompts, with this module's sampling settings: `index, seed, text, tokens` a row."""
        result = self._sampler.sample(batch, self.seed)
        samples = samples_of(result, self._detokenizer, self.pad_id, batch.index.tolist(), self.seed)
        return [sample.record() for sample in samples]

    def on_predict_end(self) -> None:
        """Let go of what an average of this module would copy."""
        del self._detokenizer, self._sampler

    def text_generator(self, trajectories: int = 0) -> TextGenerator:
        """What generates texts on all ranks together, for evaluation and callbacks.

        Args:
            trajectories: texts from which to measure repetition where it is to be controlled.

        Raises:
            UserError: without an ELFDataModule.
        """
        data, trainer = self._datamodule(), self.trainer
        if data is None:
            raise UserError("ELFModule generates with an ELFDataModule; pass the Trainer a `datamodule`")
        return TextGenerator(
            sampler=self.sampler,
            settings=self.sampling,
            data=data,
            detokenizer=Detokenizer.from_state(self.decoding_state()),
            device=self.device,
            precision=trainer.precision_plugin.forward_context,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            trajectories=trajectories,
        )

    def sampler(self, settings: SamplingSettings | None = None) -> Sampler:
        """A sampler of this module's network, with its own settings by default."""
        return Sampler(
            self.network,
            path=self.objective.path,
            times=self.objective.times,
            settings=settings or self.sampling,
            eos_id=self.eos_id,
            pad_id=self.pad_id,
        )

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """One optimizer, stepped by Lightning, and its schedule, which advances every step.

        Raises:
            UserError: without an ELFDataModule, or for a schedule that does not fit the run.
        """
        trainer = self.trainer
        data = self._datamodule()
        if data is None:
            raise UserError("ELFModule trains on an ELFDataModule; pass one to the Trainer as `datamodule`")
        rows = data.batch_size * trainer.world_size * trainer.accumulate_grad_batches
        learning_rate = scaled_learning_rate(self.optimizer.base_learning_rate, rows)
        optimizer = self.optimizer.build(self.network, learning_rate)
        total_steps = trainer.estimated_stepping_batches
        trainer.fit_loop.setup_data()  # as the line above does, but for runs without a number of epochs
        steps_per_epoch = ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        scheduler = self.schedule.build(optimizer, total_steps, steps_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep all that decoding needs, in plain types, so that samples need no configuration."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["elf"] = self._description() | {"step": self.global_step}
        data = self._datamodule()
        if data is not None and (position := data.reached()) is not None:
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
        kept = checkpoint["elf"]
        check_network(kept["network"], self.network)
        if self._datamodule() is not None:
            check_decoding(kept["decoding"], self.decoding_state())
        self._decoding = kept["decoding"]
        self._loaded_steps = kept["step"]

    def _description(self) -> dict[str, Any]:
        return {
            "network": network_description(self.network),
            "path": asdict(self.objective.path),
            "times": asdict(self.objective.times),
            "sampling": asdict(self.sampling),
            "decoding": self.decoding_state(),
        }

    def decoding_state(self) -> dict[str, Any]:
        """What turns tokens into text and text into latents: of the DataModule, or of the checkpoint."""
        data = self._datamodule()
        return data.decoding_state() if data is not None else self._decoding

    def _logs_for_all_ranks(self) -> bool:
        """Whether there are other ranks, and this step's logs are written."""
        trainer = self.trainer
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        return trainer.world_size > 1 and every > 0 and (self.global_step + 1) % every == 0

    def _datamodule(self) -> ELFDataModule | None:
        data = getattr(self.trainer, "datamodule", None)
        return data if isinstance(data, ELFDataModule) else None

    def _seed_dropout(self, batch_idx: int) -> None:
        """Dropout knows no generator but the global ones, which no checkpoint holds."""
        if self._dropout:
            place = seeded_generator("dropout", self.seed, self.current_epoch, batch_idx, self.global_rank)
            torch.manual_seed(place.initial_seed())

    def _draw(self, batch: LatentBatch, epoch: int | str, batch_idx: int) -> Draws:
        key = StepKey(self.seed, epoch, batch_idx, self.global_rank)
        return self.objective.draw(batch.latents.shape, key, batch.latents.device)


def _sum_over_ranks(values: Tensor) -> Tensor:
    torch.distributed.all_reduce(values)
    return values
