"""The base class of training modules, and the module of ELF as published."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from math import ceil
from pathlib import Path
from typing import Any, Self

import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler, LearningRateFinder
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torchmetrics import MeanMetric, MetricCollection

from elf_lightning.batch import LatentBatch, LatentPromptBatch
from elf_lightning.checkpoints import ELFConfig, load_model
from elf_lightning.checkpoints.config import SIZES, check_numbers
from elf_lightning.codec import TextCodec
from elf_lightning.compiling import can_compile, require_compiler
from elf_lightning.data import ELFDataModule
from elf_lightning.errors import UserError
from elf_lightning.evaluation import EvaluationSettings
from elf_lightning.flow import seeded_generator
from elf_lightning.generation import Request, TextGenerator, requests_from_data
from elf_lightning.network import ELFNetwork, NetworkConfig
from elf_lightning.network.flops import training_step_flops
from elf_lightning.objectives import Draws, ELFObjective, Losses, StepKey
from elf_lightning.optim import MuonSettings, OptimizerSettings, Schedule, scaled_learning_rate
from elf_lightning.sampling import SamplingSettings
from elf_lightning.sampling.settings import DEFAULT_TRAJECTORIES
from elf_lightning.training.cuda_graphs import can_replay
from elf_lightning.training.guard import GuardedModule, NonFinite
from elf_lightning.training.warm_start import InitialWeights

SIZES_FROM_DATA = (*SIZES, "eos_id", "pad_id", "unknown_id")
"""Arguments of `TrainingModule` that follow from the data."""


class TrainingModule(GuardedModule):
    """Everything but `training_step`: optimizer, validation, checkpoints, `predict` and `test`.

    Batches contain latents: the DataModule runs the encoder, on the device, in `on_after_batch_transfer`.

    Args:
        latent_size: C; the command line sets all arguments up to `unknown_id` from the DataModule.
        vocab_size: V, number of tokens of the token head.
        max_length: maximum sequence length in tokens, S.
        eos_id: token that ends a text.
        pad_id: token that fills sequences.
        unknown_id: token for everything outside a restricted vocabulary; never counts as correct.
        network: width, depth and other sizes.
        objective: path and distributions of the random draws; validation measures its losses.
        optimizer: MuonSettings (default) or AdamWSettings, with the base learning rate.
        schedule: warm-up and decay of the learning rate.
        sampling: defaults for `predict` and `elf sample`, stored in checkpoints.
        evaluation: what `test` measures besides the losses.
        init_from: initial weights: a checkpoint in any format, a run's folder, a Hub id, or a package such as
            `elf_books`. Length and vocabulary may differ if the tokenizer is the same. Latents are normalised
            as in its training, unless `data.latent_mean` is given or the encoder is another one.
        non_finite: what to do if a loss or gradient is not finite: `stop` training, or `skip` the step, which
            synchronises with the device in every step.
        seed: of initial values, training draws and samples; 0 by default, and on the command line the
            value of `seed_everything`.
        compile: compile the network's blocks with `torch.compile`, which needs a C++ compiler on a CPU and
            Triton on a GPU; None compiles on a GPU that has them.
        cuda_graphs: replay the compiled blocks as CUDA graphs in training, where that is possible: on one
            NVIDIA GPU or by DDP, without gradient accumulation. Small models then train faster, since the
            host starts far fewer kernels.

    Attributes:
        loaded: configuration of the checkpoint that the weights were loaded from, if they were.
        initial_codec: codec of the weights to start from, or of a teacher; None if there is none.
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
        compile: bool | None = False,
        cuda_graphs: bool = True,
    ) -> None:
        super().__init__(non_finite)
        self.seed = seed or 0
        initial = seeded_generator("initial values", self.seed)
        self.network = ELFNetwork(network, latent_size, vocab_size, max_length, initial)
        self.networks = [self.network]  # all that a training step runs
        self.objective, self.optimizer, self.schedule = objective, optimizer, schedule
        self.sampling, self.evaluation = sampling, evaluation
        self.eos_id, self.pad_id, self.unknown_id = eos_id, pad_id, unknown_id
        means = ("loss", "denoise_loss", "decode_loss", "decode_accuracy", "clean_decode_accuracy")
        self.validation_metrics = MetricCollection(
            {name: MeanMetric() for name in means}, prefix="val/", compute_groups=False
        )
        self.loaded: ELFConfig | None = None
        self._initial = InitialWeights(self.network, init_from) if init_from else None
        self.initial_codec = self._initial.config.codec if self._initial else None
        self._compile, self._cuda_graphs = compile, cuda_graphs
        self._step_replayed = False  # whether graphs replayed the latest step

    @classmethod
    def for_data(cls, data: ELFDataModule, **settings: Any) -> Self:
        """A module with the sizes of `data`, which takes the latent statistics of any `init_from`."""
        module = cls(**{size: getattr(data, size) for size in SIZES_FROM_DATA}, **settings)
        if module.initial_codec is not None:
            data.normalise_as(module.initial_codec)
        return module

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: str | Path, map_location: torch.device | str | None = None, **settings: Any
    ) -> Self:
        """A module with the averaged weights of a checkpoint in any format that `load_model` reads.

        `settings` are arguments of this class that override the checkpoint's. A checkpoint that cannot be
        read, does not name its tokenizer, or does not fit the network in `settings` is a `UserError`.
        """
        bundle = load_model(checkpoint_path)
        config, codec = bundle.config, bundle.config.codec
        if codec is None:
            raise UserError(
                f"checkpoint '{checkpoint_path}' does not name its tokenizer and encoder; create the module "
                "with `for_data` and pass the checkpoint as `init_from`"
            )
        stored = {
            **{size: getattr(config if size in SIZES else codec, size) for size in SIZES_FROM_DATA},
            "network": config.network,
            "objective": ELFObjective(path=config.path, times=config.times),
            # Checkpoints of runs have no list of words.
            "sampling": replace(config.default_sampling, known_words=False),
        }
        module = cls(**stored | settings)
        config.check_network(module.network)
        module.network.load_state_dict(bundle.weights)
        module.loaded = config
        return module if map_location is None else module.to(map_location)

    @property
    def text_data(self) -> Any:
        """The DataModule of the Trainer, if it has a `codec` and a `batch_size`; otherwise None."""
        data = getattr(self._trainer, "datamodule", None)
        return data if {"codec", "batch_size"} <= {*dir(data)} else None

    @property
    def codec(self) -> TextCodec | None:
        """The meaning of ids and latents: from the DataModule, otherwise from the loaded checkpoint."""
        source = self.text_data or self.loaded
        return None if source is None else source.codec

    @property
    def config(self) -> ELFConfig:
        """The model's description, as stored in checkpoints."""
        return ELFConfig(
            network=self.network.config,
            **{size: getattr(self.network, size) for size in SIZES},
            path=self.objective.path,
            times=self.objective.times,
            sampling=self.sampling,
            codec=self.codec,
            step=self.global_step or (self.loaded.step if self.loaded else 0),
        )

    def setup(self, stage: str) -> None:
        """Check that the Trainer can train this module; compile it; give initial weights the vocabulary."""
        if self._initial is not None:
            self._initial.fit_vocabulary(self.codec)
            self._initial = None  # later, the weights are trained
        device = self.trainer.strategy.root_device
        if self._compile or (self._compile is None and can_compile(device)):
            require_compiler("model.compile", device)
            for network in self.networks:
                network.compile()
        self._compile = False  # once
        if any(isinstance(one, LearningRateFinder) for one in self.trainer.callbacks):  # type: ignore[attr-defined]
            raise UserError(
                "trainer.callbacks: LearningRateFinder is not supported, since it replaces the schedule and "
                "warm-up; compare short runs with different model.optimizer.base_learning_rate instead"
            )

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimizer and its schedule, which advances every step."""
        trainer = self.trainer
        self._configured_rate = self._peak_learning_rate()
        optimizer = self.optimizer.build(self.network, self._configured_rate)
        total_steps = trainer.estimated_stepping_batches
        trainer.fit_loop.setup_data()  # the line above does so only for runs with a number of epochs
        steps_per_epoch = ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        trial = bool(trainer.fast_dev_run)  # type: ignore[attr-defined]
        scheduler = self.schedule.build(optimizer, total_steps, steps_per_epoch, trial)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_start(self) -> None:
        """Set what the start of an epoch would, for a run that resumes within one.

        Recreate optimizer and schedule if a BatchSizeFinder has changed the batch size.
        """
        for one in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(one, GradientAccumulationScheduler):
                self.trainer.accumulate_grad_batches = one.get_accumulate_grad_batches(self.current_epoch)
        if self.global_step == 0 and self._peak_learning_rate() != self._configured_rate:
            self.trainer.strategy.setup_optimizers(self.trainer)

    def _peak_learning_rate(self) -> float:
        """The base learning rate, scaled by the global batch size."""
        trainer, data = self.trainer, self.text_data
        if data is None:
            raise UserError(
                f"{type(self).__name__} needs a DataModule with `codec` and `batch_size`, such as "
                "ELFDataModule; pass one to the Trainer as `datamodule`"
            )
        sequences = data.batch_size * trainer.world_size * trainer.accumulate_grad_batches
        return scaled_learning_rate(self.optimizer.base_learning_rate, sequences)

    def draw(self, batch: LatentBatch, batch_idx: int) -> Draws:
        """Draw the random numbers of a training step, and seed its dropout."""
        position = (self.seed, self.current_epoch, batch_idx, self.global_rank)
        if self.network.config.dropout > 0:
            # Dropout uses only the global generators, whose states are not in checkpoints.
            torch.manual_seed(seeded_generator("dropout", *position).initial_seed())
        key = StepKey(*position)
        return self.objective.draw(batch.latents.shape, key, batch.latents.device)

    def log_losses(self, losses: Losses, draws: Draws, batch_size: int) -> None:
        """Log the losses of a step under `train/…`, averaged over ranks in steps that a logger writes."""
        trainer = self.trainer
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if trainer.world_size > 1 and every > 0 and (self.global_step + 1) % every == 0:
            losses = losses.over_ranks()
        # Without `prog_bar`, which would synchronise with the device in every step.
        self.log_dict(losses.named("train", draws), batch_size=batch_size)

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Replay compiled passes as CUDA graphs within the context, where the run allows it.

        For the passes of a `training_step` whose loss is differentiated once.
        """
        wanted = self._cuda_graphs and self.network.compiled and self.automatic_optimization
        self._step_replayed = wanted and can_replay(self.trainer)
        try:
            for network in self.networks:
                network.cuda_graphs = self._step_replayed
            yield
        finally:
            for network in self.networks:
                network.cuda_graphs = False

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Check for bad steps, and drop gradients that the next CUDA graph would overwrite."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        if self._step_replayed:  # an interrupted run moves its gradients to the host
            self.zero_grad()

    def training_flops(self, batch_size: int, length: int) -> float:
        """FLOPs of a micro-batch, forward and backward, averaged over the draws."""
        counts = self.objective.mean_counts(batch_size)
        return training_step_flops(self.network, batch_size, length, *counts)

    def validation_step(self, batch: LatentBatch, batch_idx: int) -> None:
        """Losses and decode accuracies of validation sequences, with the same draws every time."""
        # The words are part of the seed: another key would change the numbers of earlier runs.
        key = StepKey(self.seed, "held out", batch_idx, self.global_rank)
        draws = self.objective.draw(batch.latents.shape, key, batch.latents.device)
        losses = self.objective.evaluate(self.network, batch, draws, self.unknown_id)
        correct = self.network.decode_tokens(batch.latents, draws.guidance) == batch.input_ids
        if self.unknown_id is not None:  # its text is lost
            correct &= batch.input_ids != self.unknown_id
        metrics, decode_count = self.validation_metrics, losses.decode_count
        metrics["loss"].update(losses.total, decode_count)
        metrics["denoise_loss"].update(losses.denoise, losses.denoise_count)
        metrics["decode_loss"].update(losses.decode, decode_count)
        metrics["decode_accuracy"].update(losses.decode_accuracy, decode_count)
        metrics["clean_decode_accuracy"].update(correct.float(), batch.loss_mask.float())
        self.log_dict(dict(metrics.items()))

    def test_step(self, batch: LatentBatch, batch_idx: int) -> None:
        """Like `validation_step`; texts are generated and scored after the last batch."""
        self.validation_step(batch, batch_idx)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add everything that sampling needs, in plain types, so that it needs no configuration file."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["elf"] = replace(self.config, step=self.global_step).to_dict()
        data = self.text_data
        if isinstance(data, ELFDataModule) and (position := data.reached()) is not None:
            batches = int(self.trainer.num_training_batches)
            position.set_counters(checkpoint["loops"]["fit_loop"], batches, self.global_step)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another network, or of data whose ids or latents have another meaning.

        A run that goes on with other micro-batches counts in them from here on.
        """
        super().on_load_checkpoint(checkpoint)
        data, trainer = self.text_data, self._trainer
        if trainer is not None and trainer.state.fn == TrainerFn.FITTING and isinstance(data, ELFDataModule):
            state = checkpoint.get(type(data).__qualname__, {})
            if (position := data.rescaled(state)) is not None:
                state |= asdict(position)
                batches = data.batches_per_epoch(trainer.world_size, trainer.limit_train_batches)
                position.set_counters(checkpoint["loops"]["fit_loop"], batches, checkpoint["global_step"])
        if "elf" not in checkpoint:
            raise UserError(
                "the checkpoint has no entry 'elf', so it was not written by elf_lightning; to load "
                "weights in another format, give it as model.init_from"
            )
        stored = ELFConfig.from_dict(checkpoint["elf"])
        stored.check_network(self.network)
        for state in ("state_dict", "current_model_state"):
            weights = checkpoint.get(state, {})
            check_numbers({name: weights[name] for name in weights if name.startswith("network.")})
        if data is not None and stored.codec is not None:
            stored.codec.check_compatible(data.codec)
        self.loaded = stored

    def text_generator(self) -> TextGenerator:
        """A generator with the current weights; all ranks share the work."""
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

    def on_test_start(self) -> None:
        """Load the scoring model, so that a missing one is reported before any text is generated."""
        from elf_lightning.evaluation.evaluate import evaluation_in

        self._evaluation = evaluation_in(self.trainer, self.text_generator(), self.evaluation)

    def on_test_epoch_end(self) -> None:
        """Generate and score texts; the results are written to the run's folder."""
        self._evaluation.run()

    def on_test_end(self) -> None:
        """Delete the scoring model, which averaging would copy with this module."""
        del self._evaluation


class ELFModule(TrainingModule):
    """Trains the shared denoiser/decoder (arXiv 2605.10938, section 3): draw, loss, log.

    The arguments are those of `TrainingModule`.
    """

    def training_step(self, batch: LatentBatch, batch_idx: int) -> Tensor:
        """Loss of one micro-batch, ()."""
        draws = self.draw(batch, batch_idx)
        with self.replaying():
            losses = self.objective(self.network, batch, draws, self.unknown_id)
        self.log_losses(losses, draws, len(batch))
        return losses.total
