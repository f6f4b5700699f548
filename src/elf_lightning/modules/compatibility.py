"""Whether a checkpoint belongs to a network and its data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

import torch

from elf_lightning.errors import UserError
from elf_lightning.network import ELFNetwork

TOLERANCE = 1e-3
"""Difference of mean or standard deviation, absolute or relative, that another precision or device makes."""
TRAINING_ONLY = ("dropout", "gradient_checkpointing")
"""What may change from run to run: it shapes no weights."""
SETTINGS = {
    "tokenizer": "data.encoder",
    "encoder": "data.encoder",
    "kept_ids": "data.restrict_vocabulary",
    "pad_mode": "data.pad_mode",
    "eos_id": "the tokenizer of data.encoder",
    "pad_id": "the tokenizer of data.encoder",
    "unknown_id": "the tokenizer of data.encoder",
    "max_condition_length": "data.max_condition_length",
    "latent_mean": "data.latent_mean",
    "latent_std": "data.latent_std",
}
"""What the weights mean, by its name in the decoding state, and the setting that decides it."""


def network_description(network: ELFNetwork) -> dict[str, Any]:
    """The sizes of `network` in plain types, as checkpoints keep them."""
    sizes = ("latent_size", "vocab_size", "max_length")
    return asdict(network.shape) | {size: getattr(network, size) for size in sizes}


def check_network(theirs: Mapping[str, Any], network: ELFNetwork) -> None:
    """Compare the sizes in a checkpoint with those of `network`, as far as they shape weights.

    Raises:
        UserError: in one line, if they differ.
    """
    ours = asdict(network.shape) | {"latent_size": network.latent_size, "vocab_size": network.vocab_size}
    names = sorted(name for name in ours.keys() - {*TRAINING_ONLY} if ours[name] != theirs.get(name))
    if names:
        listed = ", ".join(f"{name} {theirs.get(name)} (here {ours[name]})" for name in names)
        raise UserError(
            f"the checkpoint holds another network: {listed}; use the configuration it was trained with"
        )


def check_decoding(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Compare what a checkpoint was trained on with what the data give.

    Args:
        theirs: the checkpoint's decoding state.
        ours: that of the data.

    Raises:
        UserError: in one line, if latents or ids mean something else.
    """
    for name, setting in SETTINGS.items():
        if name in theirs and not _same(name, theirs[name], ours[name]):
            was, here = _difference(theirs[name], ours[name])
            raise UserError(
                f"the checkpoint was trained on other data: {setting}: {name} {was} (here {here}); "
                "use the configuration and the text it was trained with, or begin a new run from its "
                "weights with model.init_from"
            )


def _same(name: str, theirs: Any, ours: Any) -> bool:
    if name == "tokenizer":
        return _last_part(theirs) == _last_part(ours)
    if name == "encoder":
        return not any(_differing(theirs, ours))
    if name in ("latent_mean", "latent_std"):
        was, here = (torch.tensor(value, dtype=torch.float64) for value in (theirs, ours))
        return bool(torch.isclose(was, here, rtol=TOLERANCE, atol=TOLERANCE).all())
    return bool(theirs == ours)


def _differing(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> Iterable[str]:
    """The entries, which both encoders have, whose values are not the same."""
    if theirs["class"] != ours["class"]:
        yield "class"
    for entry in theirs.keys() & ours.keys() - {"class"}:
        was, here = theirs[entry], ours[entry]
        # A folder that was moved holds the same model still.
        if (_last_part(was) != _last_part(here)) if entry == "name_or_path" else was != here:
            yield entry


def _last_part(name_or_path: str) -> str:
    return PurePath(name_or_path).name


def _difference(theirs: Any, ours: Any) -> tuple[str, str]:
    """Both values, shortly."""
    if isinstance(theirs, dict):
        entry = next(iter(_differing(theirs, ours)))
        return f"{entry} {theirs[entry]}", str(ours[entry])
    return _short(theirs), _short(ours)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return f"{len(value)} values, {', '.join(map(_short, value[:3]))}, …"
    return str(value)
