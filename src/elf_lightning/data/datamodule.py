"""The data side of a run: text -> tokens -> batches -> latents on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Sampler

from elf_lightning.batch import LatentBatch, LatentPromptBatch, PromptBatch, TokenBatch
from elf_lightning.data.collate import Collate
from elf_lightning.data.embed import Embedder, Moments
from elf_lightning.data.examples import CollateLatents, CollatePrompts, EmptyRows, Examples
from elf_lightning.data.prepare import Preparation
from elf_lightning.data.rows import Row, Rows
from elf_lightning.data.sampler import EpochSampler, ShardSampler
from elf_lightning.data.sources import Source
from elf_lightning.data.store import LatentsStore
from elf_lightning.data.tokenize import Packing
from elf_lightning.data.vocabulary import PadMode, RestrictedVocabulary, SpecialIds
from elf_lightning.encoders import Encoder, read_tokenizer
from elf_lightning.errors import UserError


class ELFDataModule(LightningDataModule):
    """Prepares a corpus, reads it in rows, and embeds them on the device with a frozen encoder.

    Args:
        source: where the text comes from.
        encoder: turns tokens into latents; its tokenizer is the run's.
        max_length: positions of a row, S.
        packing: how documents become rows: `pack` joins them with EOS and cuts every `max_length` tokens,
            `truncate` keeps the beginning of each, `wrap` cuts long ones into several rows.
        pad_mode: `pad` fills rows with the pad id, which is not learned; `eos` fills them with EOS, which
            is, so that the model learns to end.
        max_condition_length: longest condition in tokens, for text-to-text; None for unconditional text.
        label_drop_probability: how often a training row's condition is hidden.
        batch_size: rows a device and micro-batch.
        global_batch_size: rows an optimiser step, over all devices and accumulated micro-batches; None
            leaves accumulation to the Trainer.
        num_workers: processes that read batches.
        seed: of the order of rows and of label drop.
        restrict_vocabulary: the network knows only the pieces that occur in the training rows.
        cache_latents: embed all rows once, before training, and read their latents from disk.
        cache_dir: folder for prepared rows and latents.
        latent_mean: what is subtracted from the encoder's output; None measures it.
        latent_std: what it is then divided by; None measures it.
        num_predict_rows: rows that `predict` generates; in text-to-text, from that many held-out conditions.
        num_proc: processes that tokenise; None for this one alone.

    Raises:
        UserError: for settings that contradict each other, a source that cannot be read, and the like.
    """

    def __init__(
        self,
        source: Source,
        encoder: Encoder,
        max_length: int = 1024,
        packing: Packing = "pack",
        pad_mode: PadMode = "pad",
        max_condition_length: int | None = None,
        label_drop_probability: float = 0.0,
        batch_size: int = 32,
        global_batch_size: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
        restrict_vocabulary: bool = False,
        cache_latents: bool = False,
        cache_dir: str = ".cache/elf_lightning",
        latent_mean: float | list[float] | None = None,
        latent_std: float | None = None,
        num_predict_rows: int = 16,
        num_proc: int | None = None,
    ) -> None:
        super().__init__()
        self.source = source
        self.encoder = encoder
        self.max_length = max_length
        self.pad_mode: PadMode = pad_mode
        self.max_condition_length = max_condition_length
        self.label_drop_probability = label_drop_probability
        self.batch_size = batch_size
        self.global_batch_size = global_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.cache_latents = cache_latents
        self.cache_dir = Path(cache_dir)
        self.num_predict_rows = num_predict_rows
        given_moments = _given_moments(latent_mean, latent_std)
        _check_lengths(max_length, encoder, max_condition_length)
        self.tokenizer = read_tokenizer(encoder.name_or_path)
        self.special = SpecialIds.of(self.tokenizer, pad_mode)
        self.preparation = Preparation(
            source, self.tokenizer, self.special.eos, packing, max_length, max_condition_length,
            self.cache_dir, num_proc,
        )  # fmt: skip
        self.collate = Collate(max_length, self.special.fill, pad_mode, max_condition_length)
        self.store = LatentsStore(
            self.preparation, encoder, self.collate, label_drop_probability > 0, given_moments
        )
        self.vocabulary = self._restricted_vocabulary() if restrict_vocabulary else None
        self._first_epoch, self._first_batch = 0, 0

    # Sizes, known before anything is trained

    @property
    def vocab_size(self) -> int:
        """Number of ids that the network knows."""
        return len(self.tokenizer) if self.vocabulary is None else len(self.vocabulary)

    @property
    def latent_size(self) -> int:
        """Channels of a latent, C."""
        return self.encoder.latent_size

    @property
    def pad_id(self) -> int:
        """Network id of padding."""
        return self._network_id(self.special.pad)

    @property
    def eos_id(self) -> int:
        """Network id of the end of a text."""
        return self._network_id(self.special.eos)

    @property
    def unknown_id(self) -> int | None:
        """Network id of pieces outside a restricted vocabulary; None with the full one."""
        return None if self.vocabulary is None else self.vocabulary.unknown_id

    @property
    def train_rows(self) -> int:
        """Number of training rows; prepares them if need be."""
        self.preparation.run()
        return len(self._rows("train"))

    def decoding_state(self) -> dict[str, Any]:
        """What decoding needs, in plain types: kept in every checkpoint."""
        return {
            "tokenizer": self.encoder.name_or_path,
            "encoder": self.encoder.identity(),
            "kept_ids": None if self.vocabulary is None else self.vocabulary.kept,
            "latent_mean": self.moments.mean,
            "latent_std": self.moments.std,
            "max_length": self.max_length,
            "max_condition_length": self.max_condition_length,
            "pad_mode": self.pad_mode,
            "pad_id": self.pad_id,
            "eos_id": self.eos_id,
            "unknown_id": self.unknown_id,
        }

    # Preparation

    def prepare_data(self) -> None:
        """Tokenise, measure and embed whatever is not on disk yet; Lightning calls it on one process."""
        self.preparation.run()
        with self._precision():
            self.store.moments(self._device())
            if self.cache_latents:
                self.store.write(self._device())

    def setup(self, stage: str) -> None:
        """Fix the accumulation that `global_batch_size` asks for."""
        if stage == "fit" and self.global_batch_size is not None and self.trainer is not None:
            self.trainer.accumulate_grad_batches = self.accumulation(self.trainer.world_size)

    def accumulation(self, world_size: int) -> int:
        """Micro-batches an optimiser step.

        Raises:
            UserError: if `global_batch_size` is no whole number of micro-batches.
        """
        together = self.batch_size * world_size
        if self.global_batch_size is None:
            return 1
        if self.global_batch_size % together:
            raise UserError(
                f"data.global_batch_size {self.global_batch_size} is no multiple of data.batch_size "
                f"{self.batch_size} x {world_size} device(s); change one of them"
            )
        return self.global_batch_size // together

    @cached_property
    def moments(self) -> Moments:
        """Mean and standard deviation that latents are normalised by, given or measured."""
        with self._precision():
            return self.store.moments(self._device())

    # Loaders

    def train_dataloader(self) -> DataLoader[Row]:
        """Shuffled training rows, from where a loaded checkpoint stopped."""
        examples = Examples(self._rows("train"), self.seed, self.label_drop_probability)
        sampler = EpochSampler(
            len(examples), self.batch_size, self.seed, *self._rank(), self._first_epoch, self._first_batch
        )
        return self._loader(examples, sampler, self._collate_split("train"))

    def val_dataloader(self) -> DataLoader[Row]:
        """Held-out rows in order; over several devices, the same number on each."""
        examples = Examples(self._rows("validation"))
        sampler = ShardSampler(len(examples), *self._rank(), even=True)
        return self._loader(examples, sampler, self._collate_split("validation"))

    def test_dataloader(self) -> DataLoader[Row]:
        """The held-out rows of `val_dataloader`."""
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader[Row]:
        """Rows to generate: empty ones, or in text-to-text the held-out conditions."""
        rows = (
            EmptyRows(self.num_predict_rows)
            if self.max_condition_length is None
            else self._rows("validation")
        )
        sampler = ShardSampler(min(self.num_predict_rows, len(rows)), *self._rank(), even=False)
        return self._loader(Examples(rows), sampler, CollatePrompts(self.collate))

    def on_after_batch_transfer(
        self, batch: TokenBatch | PromptBatch, dataloader_idx: int
    ) -> LatentBatch | LatentPromptBatch:
        """Embed a batch on its device, under the run's precision, and give it the network's ids."""
        with self._precision():
            embedded = self._embed(batch)
        ids = (
            embedded.input_ids if self.vocabulary is None else self.vocabulary.to_network(embedded.input_ids)
        )
        return replace(embedded, input_ids=ids, latents=embedded.latents.float())

    def _embed(self, batch: TokenBatch | PromptBatch) -> LatentBatch | LatentPromptBatch:
        if isinstance(batch, LatentBatch | LatentPromptBatch):
            return batch
        if isinstance(batch, TokenBatch):
            return self._embedder(batch.input_ids.device).tokens(batch)
        if self.max_condition_length is not None:
            return self._embedder(batch.input_ids.device).prompts(batch)
        latents = torch.zeros(*batch.input_ids.shape, self.latent_size, device=batch.input_ids.device)
        return LatentPromptBatch(**vars(batch), latents=latents)

    # Position

    def state_dict(self) -> dict[str, Any]:
        """Where training stands: the epoch and the batches of it that were trained on."""
        if self.trainer is None:
            return {}
        fit_loop = self.trainer.fit_loop
        batches = fit_loop.epoch_loop.batch_progress.current
        return {
            "epoch": max(0, fit_loop.epoch_progress.current.ready - 1),
            "batches": batches.processed,  # type: ignore[attr-defined]
            "batches_in_epoch": self.trainer.num_training_batches,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue there; after a finished epoch, with the next one."""
        finished = state_dict["batches"] >= state_dict["batches_in_epoch"]
        self._first_epoch = state_dict["epoch"] + finished
        self._first_batch = 0 if finished else state_dict["batches"]

    # Parts

    def _restricted_vocabulary(self) -> RestrictedVocabulary:
        if self.special.unknown is None:
            raise UserError(
                f"data.restrict_vocabulary: tokenizer '{self.encoder.name_or_path}' has no unknown token "
                "for the pieces left out; set it to false"
            )
        self.preparation.run()
        special = {self.special.eos, self.special.pad, self.special.unknown}
        kept = self.preparation.kept_ids(special)
        return RestrictedVocabulary(kept, len(self.tokenizer), self.special.unknown)

    def _network_id(self, token: int) -> int:
        return token if self.vocabulary is None else self.vocabulary.kept.index(token)

    def _rows(self, split: str) -> Rows:
        return self.preparation.rows(split)

    def _collate_split(self, split: str) -> Callable[[Sequence[Row]], TokenBatch]:
        if not self.cache_latents:
            return self.collate
        return CollateLatents(self.collate, self.store.split(split, self._device()))

    def _loader(
        self,
        examples: Examples,
        sampler: Sampler[int],
        collate: Callable[[Sequence[Row]], TokenBatch | PromptBatch],
    ) -> DataLoader[Row]:
        return DataLoader(
            examples,
            self.batch_size,
            sampler=sampler,
            collate_fn=collate,
            num_workers=self.num_workers,
            pin_memory=self._device().type == "cuda",
            persistent_workers=self.num_workers > 0,
        )

    def _embedder(self, device: torch.device) -> Embedder:
        return Embedder(self.encoder.to(device), self.moments)

    def _device(self) -> torch.device:
        if self.trainer is not None:
            return self.trainer.strategy.root_device
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")

    def _precision(self) -> AbstractContextManager[None]:
        return nullcontext() if self.trainer is None else self.trainer.precision_plugin.forward_context()

    def _rank(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


def _given_moments(mean: float | list[float] | None, std: float | None) -> Moments | None:
    if (mean is None) != (std is None):
        raise UserError(
            f"data.latent_mean {mean} and data.latent_std {std}: give both, or neither to measure them"
        )
    if std is not None and std <= 0:
        raise UserError(f"data.latent_std {std} must be positive")
    return None if mean is None or std is None else Moments(mean, std)


def _check_lengths(max_length: int, encoder: Encoder, max_condition_length: int | None) -> None:
    if encoder.max_length is not None and max_length > encoder.max_length:
        raise UserError(
            f"data.max_length {max_length} is beyond the limit of encoder '{encoder.name_or_path}'; "
            f"choose at most {encoder.max_length}"
        )
    if max_condition_length is not None and not 1 <= max_condition_length < max_length:
        raise UserError(
            f"data.max_condition_length {max_condition_length} must lie between 1 and data.max_length - 1 "
            f"({max_length - 1})"
        )
