"""Compares the meaning of ids and latents of two codecs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

import torch

from elf_lightning.errors import UserError

TOLERANCE = 1e-3
"""Absolute and relative difference in latent statistics that may be due to precision or device."""
SETTINGS = {
    "tokenizer": "data.encoder",
    "encoder": "data.encoder",
    "kept_ids": "data.restrict_vocabulary",
    "pad_mode": "data.pad_mode",
    "eos_id": "the tokenizer of data.encoder",
    "pad_id": "the tokenizer of data.encoder",
    "unknown_id": "the tokenizer of data.encoder",
    "max_condition_length": "data.max_condition_length",
    "condition_eos": "data.condition_eos",
    "bos_eos": "data.packing",
    "latent_mean": "data.latent_mean",
    "latent_std": "data.latent_std",
}
"""The entries that must agree -> the setting that determines each."""


def check_compatible(checkpoint: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """Refuse data whose ids or latents have another meaning than in training.

    Raises:
        UserError: if an entry differs.
    """
    for name, setting in SETTINGS.items():
        if not _same(name, checkpoint[name], data[name]):
            was, here = _difference(checkpoint[name], data[name])
            raise UserError(
                f"the checkpoint was trained on other data: {setting}: {name} {was} (here {here}); "
                "use the configuration and text it was trained with, or start a new run from its weights "
                "with model.init_from"
            )


def _same(name: str, checkpoint: Any, data: Any) -> bool:
    if name == "tokenizer":
        return _last_part(checkpoint) == _last_part(data)
    if name == "encoder":
        return not any(_differing(checkpoint, data))
    if name in ("latent_mean", "latent_std"):
        was, here = (torch.tensor(value, dtype=torch.float64) for value in (checkpoint, data))
        return bool(torch.isclose(was, here, rtol=TOLERANCE, atol=TOLERANCE).all())
    return bool(checkpoint == data)


def _differing(checkpoint: Mapping[str, Any], data: Mapping[str, Any]) -> Iterable[str]:
    """The entries that both encoders have with different values."""
    if checkpoint["class"] != data["class"]:
        yield "class"
    for entry in checkpoint.keys() & data.keys() - {"class"}:
        was, here = checkpoint[entry], data[entry]
        # A moved folder contains the same model.
        if (_last_part(was) != _last_part(here)) if entry == "name_or_path" else was != here:
            yield entry


def _last_part(name_or_path: str) -> str:
    return PurePath(name_or_path).name


def _difference(checkpoint: Any, data: Any) -> tuple[str, str]:
    """Both values, abbreviated."""
    if isinstance(checkpoint, Mapping):
        entry = next(iter(_differing(checkpoint, data)))
        return f"{entry} {checkpoint[entry]}", str(data[entry])
    return _abbreviated(checkpoint), _abbreviated(data)


def _abbreviated(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return f"{len(value)} values, {', '.join(map(_abbreviated, value[:3]))}, …"
    return str(value)
