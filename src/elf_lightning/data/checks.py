"""Settings of the DataModule that contradict each other, told where they are given."""

from __future__ import annotations

from typing import get_args

from elf_lightning.codec.latents import LatentStatistics
from elf_lightning.codec.vocabulary import PadMode, SpecialIds
from elf_lightning.data.position import Position
from elf_lightning.data.sources import Source
from elf_lightning.data.tokenize import Packing
from elf_lightning.encoders import Encoder
from elf_lightning.errors import UserError


def given_latent_statistics(mean: float | list[float] | None, std: float | None) -> LatentStatistics | None:
    """The latent_statistics given; None where they are to be measured.

    Raises:
        UserError: if only one is given, or the standard deviation is not positive.
    """
    if (mean is None) != (std is None):
        raise UserError(
            f"data.latent_mean {mean} and data.latent_std {std}: give both, or neither to measure them"
        )
    if std is not None and std <= 0:
        raise UserError(f"data.latent_std {std} must be positive")
    return None if mean is None or std is None else LatentStatistics(mean, std)


def check_lengths(max_length: int, encoder: Encoder, max_condition_length: int | None) -> None:
    """Rows must fit the encoder, and conditions leave room for targets.

    Raises:
        UserError: if they do not.
    """
    if max_length < 1:
        raise UserError(f"data.max_length {max_length} must be at least 1")
    if encoder.max_length is not None and max_length > encoder.max_length:
        raise UserError(
            f"data.max_length {max_length} is beyond the limit of encoder '{encoder.name_or_path}'; "
            f"choose at most {encoder.max_length}"
        )
    if max_condition_length is not None and not 1 <= max_condition_length < max_length:
        raise UserError(
            f"data.max_condition_length {max_condition_length} must lie between 1 and data.max_length - 1, "
            f"{max_length - 1}"
        )


def check_label_drop(probability: float, max_condition_length: int | None) -> None:
    """Only a condition can be dropped.

    Raises:
        UserError: if there is none, or the probability is none.
    """
    if not 0 <= probability <= 1:
        raise UserError(f"data.label_drop_probability {probability} must lie between 0 and 1")
    if probability and max_condition_length is None:
        raise UserError(
            f"data.label_drop_probability {probability}: there is no condition to drop; set "
            "data.max_condition_length for text-to-text, or the probability to 0"
        )


def check_choices(packing: Packing, pad_mode: PadMode) -> None:
    """What the command line's parser refuses, for those who come without it.

    Raises:
        UserError: for another word.
    """
    for name, value, choices in (("packing", packing, Packing), ("pad_mode", pad_mode, PadMode)):
        if value not in get_args(choices):
            raise UserError(f"data.{name} '{value}': choose {', '.join(get_args(choices))}")


def check_counts(num_workers: int, num_predict_rows: int, num_proc: int | None, seed: int) -> None:
    """Numbers of processes and rows cannot be negative, nor can seeds.

    Raises:
        UserError: for a number that is too small.
    """
    for name, value, least in (
        ("num_workers", num_workers, 0),
        ("num_predict_rows", num_predict_rows, 1),
        ("num_proc", num_proc, 1),
        ("seed", seed, 0),
    ):
        if value is not None and value < least:
            raise UserError(f"data.{name} {value} must be at least {least}")


def check_batch(batch_size: int, bucket_step: int | None, packing: Packing, paired: bool) -> None:
    """Batches must hold something, and packed rows are all of one length.

    Raises:
        UserError: if not.
    """
    if batch_size < 1:
        raise UserError(f"data.batch_size {batch_size} must be at least 1")
    if bucket_step is not None and bucket_step < 1:
        raise UserError(f"data.bucket_step {bucket_step} must be at least 1")
    if bucket_step is not None and packing == "pack" and not paired:
        raise UserError(
            f"data.bucket_step {bucket_step}: packed rows are all of one length; leave it out, or set "
            "data.packing to truncate or wrap"
        )


def whole_batches(rows: int, batch_size: int, world_size: int) -> int:
    """Batches an epoch on each device.

    Raises:
        UserError: if there is not one.
    """
    if batches := rows // (batch_size * world_size):
        return batches
    raise UserError(
        f"data.batch_size {batch_size} x {world_size} device(s) is more than the {rows} training rows; "
        "choose a smaller one or give more text"
    )


def check_same_batches(position: Position, batch_size: int, world_size: int) -> None:
    """A place counted in batches is the same place only in batches of as many rows.

    Raises:
        UserError: if they are of more or fewer.
    """
    rows = batch_size * world_size
    if position.batch_rows not in (None, rows):
        raise UserError(
            f"data.batch_size {batch_size} x {world_size} device(s) is {rows} rows a batch, but the "
            f"checkpoint counts batches of {position.batch_rows}; choose data.batch_size so that they "
            "are as many (data.global_batch_size accumulates several)"
        )


def check_streaming(source: Source, restrict_vocabulary: bool, cache_latents: bool, buckets: bool) -> None:
    """A stream is never seen as a whole.

    Raises:
        UserError: for settings that need that.
    """
    if source.streamed_rows is None:
        return
    given = {
        "restrict_vocabulary": restrict_vocabulary,
        "cache_latents": cache_latents,
        "bucket_step": buckets,
    }
    for name in (name for name, wanted in given.items() if wanted):
        raise UserError(
            f"data.{name} needs the whole training set, which a stream is not; leave it out, or leave out "
            "source.streamed_rows"
        )
    if source.streamed_rows < 1:
        raise UserError(f"source.streamed_rows {source.streamed_rows} must be at least 1")


def accumulation(global_batch_size: int | None, batch_size: int, world_size: int) -> int:
    """Micro-batches an optimizer step; 1 where no global batch is given.

    Raises:
        UserError: if the global batch is no whole number of micro-batches.
    """
    together = batch_size * world_size
    rows = together if global_batch_size is None else global_batch_size
    if rows < 1 or rows % together:
        raise UserError(
            f"data.global_batch_size {rows} is no multiple of data.batch_size {batch_size} x "
            f"{world_size} device(s); change one of them"
        )
    return rows // together


def check_accumulation(global_batch_size: int, needed: int, asked: int) -> None:
    """The Trainer's own accumulation, if it has one, is what the global batch needs.

    Raises:
        UserError: if it is not.
    """
    if asked not in (1, needed):
        raise UserError(
            f"trainer.accumulate_grad_batches {asked} contradicts data.global_batch_size "
            f"{global_batch_size}, which needs {needed}; leave out one of them"
        )


def require_unknown(special: SpecialIds, tokenizer: str) -> int:
    """The tokenizer's id for unknown pieces, which a restricted vocabulary cannot do without.

    Raises:
        UserError: if there is none.
    """
    if special.unknown is None:
        raise UserError(
            f"data.restrict_vocabulary: tokenizer '{tokenizer}' has no unknown token for the pieces left "
            "out; set it to false"
        )
    return special.unknown
