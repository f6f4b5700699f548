"""The data of a run: text -> tokens -> batches -> latents on the device."""

import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from elf_lightning.batch import LatentBatch, LatentPromptBatch, PromptBatch, TokenBatch
from elf_lightning.codec import TextCodec
from elf_lightning.codec.latents import LatentStatistics
from elf_lightning.codec.vocabulary import PadMode, RestrictedVocabulary, SpecialIds, Vocabulary
from elf_lightning.data.examples import Collate, Example, Examples
from elf_lightning.data.latents import LatentsStore
from elf_lightning.data.packing import BOS_EOS, Packing
from elf_lightning.data.prepare import Preparation, Summary
from elf_lightning.data.resume import ResumableDataModule
from elf_lightning.data.sampler import EpochSampler, ShardSampler, whole_batches
from elf_lightning.data.sources import Source
from elf_lightning.data.stream import StreamedExamples
from elf_lightning.data.tokenize import Tokenize
from elf_lightning.encoders import Encoder, read_tokenizer
from elf_lightning.errors import UserError

WORKER_GRACE_SECONDS = 20  # how long a worker process outlasts SIGTERM, unless its rank ends it before
MakeBatch = Callable[[Sequence[Example]], TokenBatch | PromptBatch]


class ELFDataModule(ResumableDataModule):
    """Prepares a corpus, reads it in batches, and embeds them on the device with a frozen encoder.

    Constructing it reads the tokenizer and the encoder's sizes, no text. `prepare_data` tokenises, on one
    process; `vocab_size` of a restricted vocabulary does so too, if it comes first. Settings that contradict
    each other or are out of range are a `UserError`.

    Args:
        source: where the text comes from.
        encoder: turns tokens into latents; its tokenizer is used.
        max_length: longest sequence in tokens, S.
        packing: how documents become sequences: `pack` joins them with EOS and cuts every `max_length` tokens
            (the last partial sequence is left out); `bos_eos` is `pack` with the EOS id before and after
            every `max_length - 2` tokens, as published for GPT-2 tokens, where generated texts do not end at
            an EOS; `paragraphs` fills sequences with whole paragraphs (non-empty lines), across documents,
            and writes EOS where the next one does not fit; `sentences` is `pack`, but the sequence after a
            cut sentence begins with that sentence; `truncate` keeps the beginning of each document; `wrap`
            cuts long documents into several sequences. Pairs are never packed.
        pad_mode: `pad` fills sequences with the pad id, which is not learned; `eos` fills them with EOS,
            which is, so that the model learns to end.
        max_condition_length: longest condition in tokens, for text-to-text; None for unconditional text.
        condition_eos: end conditions with EOS, as the official text-to-text data does.
        label_drop_probability: how often a training example's condition is hidden.
        bucket_step: put training examples of similar length into the same batch, and make a batch only as
            wide as its longest one, rounded up to a multiple of this; None makes all `max_length` wide.
        batch_size: sequences per device and micro-batch.
        global_batch_size: sequences per optimizer step, over all devices and accumulated micro-batches; None
            leaves accumulation to the Trainer.
        num_workers: processes that read batches.
        seed: of the order of examples and of label drop; by default 0, and on the command line that of
            `seed_everything`.
        restrict_vocabulary: let the network know only the tokens that occur in the training set.
        cache_latents: embed all sequences once, before training, and read their latents from disk.
        cache_dir: folder for prepared data and latents.
        latent_mean: what is subtracted from the encoder's output; None measures it.
        latent_std: what the result is divided by; None measures it.
        num_predict_samples: number of texts that `predict` generates; in text-to-text, from that many
            validation conditions.
        num_proc: processes that tokenise; None for this one alone.
        rebuild_cache: make prepared data and latents again if they are damaged, instead of saying so.

    Attributes:
        latent_size: channels of a latent, C.
        bos_eos: whether sequences begin and end with the EOS id, and do not end at the first.
    """

    def __init__(
        self,
        source: Source,
        encoder: Encoder,
        max_length: int = 1024,
        packing: Packing = "pack",
        pad_mode: PadMode = "pad",
        max_condition_length: int | None = None,
        condition_eos: bool = False,
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
        num_predict_samples: int = 16,
        num_proc: int | None = None,
        rebuild_cache: bool = False,
    ) -> None:
        seed = seed or 0
        for name, number, minimum in (
            ("max_length", max_length, 1), ("bucket_step", bucket_step, 1), ("batch_size", batch_size, 1),
            ("num_workers", num_workers, 0), ("num_predict_samples", num_predict_samples, 1),
            ("num_proc", num_proc, 1), ("seed", seed, 0),
        ):  # fmt: skip
            if number is not None and number < minimum:
                raise UserError(f"data.{name} {number} must be at least {minimum}")
        for name, value, choices in (("packing", packing, Packing), ("pad_mode", pad_mode, PadMode)):
            if value not in get_args(choices):
                raise UserError(f"data.{name} '{value}': choose {', '.join(get_args(choices))}")
        if not 0 <= label_drop_probability <= 1:
            raise UserError(f"data.label_drop_probability {label_drop_probability} must lie between 0 and 1")
        if label_drop_probability and max_condition_length is None:
            raise UserError(
                f"data.label_drop_probability {label_drop_probability}: there is no condition to drop; set "
                "data.max_condition_length for text-to-text, or the probability to 0"
            )
        if bucket_step and packing in ("pack", BOS_EOS, "sentences") and max_condition_length is None:
            raise UserError(
                f"data.bucket_step {bucket_step}: packed sequences all have the same length; leave it out, "
                "or choose another data.packing"
            )
        streamed = source.streamed_examples is not None
        need_all = {"restrict_vocabulary": restrict_vocabulary, "cache_latents": cache_latents}
        for name, needed in (need_all | {"bucket_step": bucket_step}).items():
            if streamed and needed:
                raise UserError(
                    f"data.{name} needs the whole training set, which a stream does not provide; leave it "
                    "out, or leave out source.streamed_examples"
                )
        super().__init__(batch_size, global_batch_size, bucket_step is not None or streamed)
        self.source, self.encoder, self.latent_size = source, encoder, encoder.latent_size
        self.max_length, self.max_condition_length = max_length, max_condition_length
        self.pad_mode: PadMode = pad_mode
        self.bos_eos = packing == BOS_EOS and max_condition_length is None
        self.label_drop_probability, self.bucket_step = label_drop_probability, bucket_step
        self.num_workers, self.num_predict_samples, self.seed = num_workers, num_predict_samples, seed
        self.restrict_vocabulary, self.cache_latents = restrict_vocabulary, cache_latents
        self.tokenizer = read_tokenizer(encoder.name_or_path)
        self.special = SpecialIds.of(self.tokenizer, pad_mode, restrict_vocabulary)
        tokenize = Tokenize(
            self.tokenizer, self.special.eos, packing, max_length, max_condition_length, condition_eos
        )
        self.preparation = Preparation(
            source, tokenize, Path(cache_dir).expanduser(), num_proc, rebuild_cache
        )
        self.collate = Collate(max_length, self.special.fill, pad_mode, max_condition_length)
        given = LatentStatistics.given(latent_mean, latent_std)
        self.store = LatentsStore(self.preparation, encoder, self.collate, label_drop_probability > 0, given)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The token ids that the network knows; a restricted vocabulary is read from disk or built."""
        special = self.special
        if not self.restrict_vocabulary or special.unknown is None:
            return Vocabulary(len(self.tokenizer))
        kept = self.preparation.kept_ids({special.eos, special.pad, special.unknown})
        return RestrictedVocabulary(kept, len(self.tokenizer), special.unknown)

    @property
    def vocab_size(self) -> int:
        """Number of token ids that the network knows."""
        return len(self.vocabulary)

    @property
    def pad_id(self) -> int:
        """Network id of padding."""
        return self.vocabulary.network_id(self.special.pad)

    @property
    def eos_id(self) -> int:
        """Network id that ends a text."""
        return self.vocabulary.network_id(self.special.eos)

    @property
    def unknown_id(self) -> int | None:
        """Network id of tokens outside a restricted vocabulary; None with the full one."""
        return self.vocabulary.unknown_id

    @property
    def num_train_examples(self) -> int:
        """Number of training sequences per epoch; prepares them if necessary."""
        if self.source.streamed_examples is not None:
            return self.source.streamed_examples
        self.preparation.run()
        return len(self.preparation.examples("train"))

    def batches_per_epoch(self, world_size: int, limit: float | None = 1.0) -> int:
        """Micro-batches of an epoch on each device; `limit` is the Trainer's, a number or a fraction."""
        batches = whole_batches(self.num_train_examples, self.batch_size, world_size)
        limit = 1.0 if limit is None else limit
        return min(batches, limit) if isinstance(limit, int) else int(batches * limit)

    @cached_property
    def codec(self) -> TextCodec:
        """Text <-> ids <-> latents, as checkpoints keep it; measures latent statistics if needed."""
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
            condition_eos=self.preparation.tokenize.condition_eos,
            bos_eos=self.bos_eos,
            kept_ids=self.vocabulary.kept_ids,
            unknown_id=self.unknown_id,
            loaded_encoder=self.encoder,
        )

    def prepare_data(self) -> None:
        """Tokenise, measure and embed whatever is not on disk yet; Lightning calls it on one process."""
        self.preparation.run()
        _ = self.vocabulary, self.latent_statistics
        if self.cache_latents:
            with self._precision():
                self.store.write(self._device())

    @cached_property
    def latent_statistics(self) -> LatentStatistics:
        """Mean and standard deviation that normalise the latents, given or measured."""
        with self._precision():
            return self.store.latent_statistics(self._device())

    def normalise_as(self, checkpoint: TextCodec) -> None:
        """Use a checkpoint's latent statistics, unless they are given, or of another encoder's latents."""
        if self.store.given is None and self.encoder.identity() == checkpoint.encoder:
            statistics = LatentStatistics(checkpoint.latent_mean, checkpoint.latent_std)
            self.store = replace(self.store, given=statistics)

    def summary(self) -> dict[str, Summary]:
        """What each prepared split holds; tokens outside a restricted vocabulary are unknown."""
        return self.preparation.summary(self.vocabulary.kept_ids)

    def train_dataloader(self) -> DataLoader[Example]:
        """Shuffled training examples, from where a loaded checkpoint stopped."""
        if self.batch_size != self._given_batch_size:  # by BatchSizeFinder
            self._fit_batch_size(self.num_train_examples)
        self._check_position()
        rank, world_size = self._rank()
        examples: Examples
        lengths, place = None, (self.batch_size, self.seed, rank, world_size)
        if streamed := self.source.streamed_examples is not None:
            examples = StreamedExamples(self.source, self.preparation.tokenize, *place)
        else:
            examples = self.preparation.examples("train")
            lengths = examples.lengths() if self.bucket_step else None
        examples.label_drop_probability, examples.seed = self.label_drop_probability, self.seed
        start = (self.position.epoch, self.position.batch)
        sampler = EpochSampler(len(examples), *place, *start, shuffle=not streamed, lengths=lengths)
        collate = replace(self.collate, width_step=self.bucket_step)
        return self._loader(examples, sampler, self._with_latents(collate, "train"))

    def val_dataloader(self) -> DataLoader[Example]:
        """Validation examples in order; over several devices, the same number on each."""
        examples = self.preparation.examples("validation")
        sampler = ShardSampler(len(examples), *self._rank(), even=True)
        return self._loader(examples, sampler, self._with_latents(self.collate, "validation"))

    def test_dataloader(self) -> DataLoader[Example]:
        """The validation examples of `val_dataloader`."""
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader[Example]:
        """Prompts: empty ones, or in text-to-text the first validation conditions."""
        empty = np.empty(0, np.int64)
        examples: Any = [Example(empty, index=index) for index in range(self.num_predict_samples)]
        if self.max_condition_length is not None:
            examples = self.preparation.examples("validation")
        sampler = ShardSampler(min(self.num_predict_samples, len(examples)), *self._rank(), even=False)
        return self._loader(examples, sampler, self.collate.prompts)

    def _with_latents(self, collate: Collate, split: str) -> MakeBatch:
        if not self.cache_latents:
            return collate
        return partial(self.store.split(split, self._device()).collate, collate)

    def _loader(self, examples: Examples, sampler: Sampler[int], collate: MakeBatch) -> DataLoader[Example]:
        return DataLoader(
            examples,
            batch_size=self.batch_size,
            sampler=sampler,
            collate_fn=collate,
            num_workers=self.num_workers,
            pin_memory=self._device().type == "cuda",
            persistent_workers=self.num_workers > 0,
            worker_init_fn=_outlast_signals,
        )

    def on_after_batch_transfer(
        self, batch: TokenBatch | PromptBatch, dataloader_idx: int
    ) -> LatentBatch | LatentPromptBatch:
        """Embed a batch on its device, under the run's precision, and give it the network's ids."""
        embedded: LatentBatch | LatentPromptBatch
        with self._precision():
            if isinstance(batch, LatentBatch):  # from the latents cache
                embedded = batch
            elif isinstance(batch, TokenBatch):
                embedded = self.codec.embedder.tokens(batch)
            elif self.max_condition_length is not None:
                embedded = self.codec.embedder.prompts(batch)
            else:
                latents = torch.zeros(*batch.input_ids.shape, self.latent_size, device=batch.input_ids.device)
                embedded = LatentPromptBatch(**vars(batch), latents=latents)
        ids = self.vocabulary.to_network(embedded.input_ids)
        return replace(embedded, input_ids=ids, latents=embedded.latents.float())


def _outlast_signals(_: int) -> None:
    """Let a worker live on after a signal to all processes of a run, so that its rank can end in order."""
    for signum in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(signum, signal.SIG_IGN)

    def end_later(signum: int, _: object) -> None:
        signal.signal(signum, signal.SIG_DFL)
        signal.alarm(WORKER_GRACE_SECONDS)

    signal.signal(signal.SIGTERM, end_later)
