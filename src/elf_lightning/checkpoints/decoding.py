"""What turns text into rows and latents into text, as checkpoints hold it."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

from elf_lightning.errors import UserError


def check_decoding(decoding: Mapping[str, Any], latent_size: int, vocab_size: int) -> None:
    """Refuse a decoding state that is incomplete or impossible; an empty one says nothing, and passes.

    Args:
        decoding: as `ELFDataModule.decoding_state` gives it.
        latent_size: C of the network.
        vocab_size: V of the network.

    Raises:
        UserError: one line that names an entry.
    """
    if not decoding:
        return
    length, mean, kept = (decoding.get(name) for name in ("max_condition_length", "latent_mean", "kept_ids"))
    encoder, unknown = decoding.get("encoder"), decoding.get("unknown_id")
    ids = range(vocab_size)
    possible = {
        "tokenizer": isinstance(decoding.get("tokenizer"), str),
        "encoder": isinstance(encoder, Mapping) and isinstance(encoder.get("name_or_path"), str),
        "kept_ids": kept is None or _numbers(kept, int, vocab_size),
        "latent_mean": isinstance(mean, Real) or _numbers(mean, Real, latent_size),
        "latent_std": isinstance(decoding.get("latent_std"), Real) and decoding["latent_std"] > 0,
        "max_condition_length": length is None or isinstance(length, int),
        "pad_id": decoding.get("pad_id") in ids,
        "eos_id": decoding.get("eos_id") in ids,
        "unknown_id": unknown in ids or (unknown is None and kept is None),
    }
    for name, fits in possible.items():
        if name not in decoding:
            raise UserError(f"the model's description has no entry 'decoding.{name}'; is the file complete?")
        if not fits:
            value = repr(decoding[name])
            raise UserError(
                f"the model's description has the decoding.{name} {value[:40]}, which does not fit a "
                f"network of {latent_size} latent channels and {vocab_size} tokens; copy the file again"
            )


def _numbers(values: Any, kind: type, count: int) -> bool:
    return (
        isinstance(values, list) and len(values) == count and all(isinstance(value, kind) for value in values)
    )
