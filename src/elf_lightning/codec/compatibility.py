"""Compares the meaning of ids and latents of two codecs."""

from collections.abc import Mapping
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
    """Refuse data whose ids or latents have another meaning than in training."""
    for name, setting in SETTINGS.items():
        was, here = checkpoint[name], data[name]
        values = {name: (was, here)}
        if name == "encoder":  # the entries that both have
            values = {f"encoder {one}": (was[one], here[one]) for one in sorted(was.keys() & here.keys())}
        for entry, (was, here) in values.items():
            if not _same(entry, was, here):
                raise UserError(
                    f"the checkpoint was trained on other data: {setting}: {entry} {_abbreviated(was)} (here "
                    f"{_abbreviated(here)}); use the configuration and text it was trained with, or start a "
                    "new run from its weights with model.init_from"
                )


def _same(entry: str, checkpoint: Any, data: Any) -> bool:
    if entry in ("tokenizer", "encoder name_or_path"):  # a moved folder contains the same model
        return PurePath(checkpoint).name == PurePath(data).name
    if entry in ("latent_mean", "latent_std"):
        was, here = (torch.tensor(value, dtype=torch.float64) for value in (checkpoint, data))
        return bool(torch.isclose(was, here, rtol=TOLERANCE, atol=TOLERANCE).all())
    return bool(checkpoint == data)


def _abbreviated(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return f"{len(value)} values, {', '.join(map(_abbreviated, value[:3]))}, …"
    return str(value)
