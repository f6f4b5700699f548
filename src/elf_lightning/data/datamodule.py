"""The data side of a run: text -> tokens -> batches -> latents on the device."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

from torch.utils.data import DataLoader

from elf_lightning.batch import LatentBatch, LatentPromptBatch, PromptBatch, TokenBatch
from elf_lightning.codec import TextCodec
from elf_lightning.codec.latents import Embedder, LatentStatistics, unconditional
from elf_lightning.codec.vocabulary import PadMode, RestrictedVocabulary, SpecialIds, Vocabulary
from elf_lightning.data import checks
from elf_lightning.data.collate import Collate
from elf_lightning.data.loaders import Loaders
from elf_lightning.data.prepare import Preparation
from elf_lightning.data.resumable import ResumableDataModule
from elf_lightning.data.rows import Row
from elf_lightning.data.sources import Source
from elf_lightning.data.store import LatentsStore
from elf_lightning.data.tokenize import Packing
from elf_lightning.encoders import Encoder, read_tokenizer


class ELFDataModule(ResumableDataModule):
    """Prepares a corpus, reads it in rows, and embeds them on the device with a frozen encoder.

    Args:
        source: where the text comes from.
        encoder: turns tokens into latents; its tokenizer is the run's.
        max_length: positions of a row, S.
        packing: how documents become rows: `pack` joins them with EOS and cuts every `max_length` tokens
            (only the last partial row is lost), `truncate` keeps the beginning of each, `wrap` cuts long
            ones into several rows. Pairs are never packed.
        pad_mode: `pad` fills rows with the pad id, which is not learned; `eos` fills them with EOS, which
            is, so that the model learns to end.
        max_condition_length: longest condition in tokens, for text-to-text; None for unconditional text.
        label_drop_probability: how often a training row's condition is hidden.
        bucket_step: put training rows of like length together, and make a batch only as wide as its longest
            row, rounded up to a multiple of this; None makes every batch `max_length` wide.
        batch_size: rows a device and micro-batch.
        global_batch_size: rows an optimizer step, over all devices and accumulated micro-batches; None
            leaves accumulation to the Trainer.
        num_workers: processes that read batches.
        seed: of the order of rows and of label drop; by default 0, and on the command line that of
            `seed_everything`.
        restrict_vocabulary: the network knows only the pieces that occur in the training rows.
        cache_latents: embed all rows once, before training, and read their latents from disk.
        cache_dir: folder for prepared rows and latents.
        latent_mean: what is subtracted from the encoder's output; None measures it.
        latent_std: what it is then divided by; None measures it.
        num_predict_rows: rows that `predict` generates; in text-to-text, from that many validation conditions.
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
        bucket_step: int | None = None,
        batch_size: int = 32,
        global_batch_size: int | None = None,
        num_workers: int = 0,
        seed: int | None = None,
        restrict_vocabulary: bool = False,
        cache_latents: bool = False,
        cache_dir: str = ".cache/elf_lightning",
        latent_mean: float | list[float] | None = None,
        latent_std: float | None = None,
        num_predict_rows: int = 16,
        num_proc: int | None = None,
    ) -> None:
        super().__init__(batch_size, global_batch_size)
        checks.check_choices(packing, pad_mode)
        checks.check_counts(num_workers, num_predict_rows, num_proc, seed or 0)
        checks.check_lengths(max_length, encoder, max_condition_length)
        checks.check_label_drop(label_drop_probability, max_condition_length)
        checks.check_batch(batch_size, bucket_step, packing, max_condition_length is not None)
        checks.check_streaming(source, restrict_vocabulary, cache_latents, bucket_step is not None)
        given = checks.given_latent_statistics(latent_mean, latent_std)
        self.source = source
        self.encoder = encoder
        self.max_length = max_length
        self.pad_mode: PadMode = pad_mode
        self.max_condition_length = max_condition_length
        self.label_drop_probability = label_drop_probability
        self.bucket_step = bucket_step
        self.num_workers = num_workers
        self.seed = seed or 0
        self.cache_latents = cache_latents
        self.num_predict_rows = num_predict_rows
        self.tokenizer = read_tokenizer(encoder.name_or_path)
        self.special = SpecialIds.of(self.tokenizer, pad_mode)
        self.preparation = Preparation(
            source, self.tokenizer, self.special.eos, packing, max_length, max_condition_length,
            Path(cache_dir), num_proc,
        )  # fmt: skip
        self.collate = Collate(max_length, self.special.fill, pad_mode, max_condition_length)
        self.store = LatentsStore(self.preparation, encoder, self.collate, label_drop_probability > 0, given)
        self.vocabulary = self._restricted() if restrict_vocabulary else Vocabulary(len(self.tokenizer))

    # Sizes, known before anything is trained

    @property
    def vocab_size(self) -> int:
        """Number of ids that the network knows."""
        return len(self.vocabulary)

    @property
    def latent_size(self) -> int:
        """Channels of a latent, C."""
        return self.encoder.latent_size

    @property
    def pad_id(self) -> int:
        """Network id of padding."""
        return self.vocabulary.network_id(self.special.pad)

    @property
    def eos_id(self) -> int:
        """Network id of the end of a text."""
        return self.vocabulary.network_id(self.special.eos)

    @property
    def unknown_id(self) -> int | None:
        """Network id of pieces outside a restricted vocabulary; None with the full one."""
        return self.vocabulary.unknown_id

    @property
    def train_rows(self) -> int:
        """Number of training rows an epoch; prepares them if need be."""
        if self.source.streamed_rows is not None:
            return self.source.streamed_rows
        self.preparation.run()
        return len(self.preparation.rows("train"))

    @property
    def codec(self) -> TextCodec:
        """What turns text into ids and latents, and ids into text: kept in every checkpoint.

        Measures the latent statistics first, if they are neither given nor on disk.
        """
        return TextCodec(
            tokenizer=self.encoder.name_or_path,
            encoder=self.encoder.identity(),
            latent_mean=self.latent_statistics.mean,
            latent_std=self.latent_statistics.std,
            max_length=self.max_length,
            pad_id=self.pad_id,
            eos_id=self.eos_id,
            pad_mode=self.pad_mode,
            max_condition_length=self.max_condition_length,
            kept_ids=self.vocabulary.kept_ids,
            unknown_id=self.unknown_id,
            loaded_encoder=self.encoder,
        )

    # Preparation

    def prepare_data(self) -> None:
        """Tokenise, measure and embed whatever is not on disk yet; Lightning calls it on one process."""
        self.preparation.run()
        with self._precision():
            self.store.latent_statistics(self._device())
            if self.cache_latents:
                self.store.write(self._device())

    @cached_property
    def latent_statistics(self) -> LatentStatistics:
        """Mean and standard deviation that latents are normalised by, given or measured."""
        with self._precision():
            return self.store.latent_statistics(self._device())

    # Loaders

    def train_dataloader(self) -> DataLoader[Row]:
        """Shuffled training rows, from where a loaded checkpoint stopped."""
        return self._loaders().train(self.position, self.seed, self.label_drop_probability, self.bucket_step)

    def val_dataloader(self) -> DataLoader[Row]:
        """Held-out rows in order; over several devices, the same number on each."""
        return self._loaders().validation()

    def test_dataloader(self) -> DataLoader[Row]:
        """The validation rows of `val_dataloader`."""
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader[Row]:
        """Rows to generate: empty ones, or in text-to-text the validation conditions."""
        return self._loaders().prompts(self.num_predict_rows)

    def on_after_batch_transfer(
        self, batch: TokenBatch | PromptBatch, dataloader_idx: int
    ) -> LatentBatch | LatentPromptBatch:
        """Embed a batch on its device, under the run's precision, and give it the network's ids."""
        with self._precision():
            embedded = self._embedded(batch)
        ids = self.vocabulary.to_network(embedded.input_ids)
        return replace(embedded, input_ids=ids, latents=embedded.latents.float())

    # Parts

    def _restricted(self) -> RestrictedVocabulary:
        unknown = checks.require_unknown(self.special, self.encoder.name_or_path)
        self.preparation.run()
        kept = self.preparation.kept_ids({self.special.eos, self.special.pad, unknown})
        return RestrictedVocabulary(kept, len(self.tokenizer), unknown)

    def _embedded(self, batch: TokenBatch | PromptBatch) -> LatentBatch | LatentPromptBatch:
        if isinstance(batch, LatentBatch):  # from the latents cache
            return batch
        if isinstance(batch, TokenBatch):
            return self._embedder.tokens(batch)
        if self.max_condition_length is None:
            return unconditional(batch, self.latent_size)
        return self._embedder.prompts(batch)

    @cached_property
    def _embedder(self) -> Embedder:
        return Embedder(self.encoder, self.latent_statistics)

    def _loaders(self) -> Loaders:
        return Loaders(
            self.preparation, self.collate, self.store if self.cache_latents else None, self._device(),
            self.batch_size, self.num_workers, *self._rank(),
        )  # fmt: skip
