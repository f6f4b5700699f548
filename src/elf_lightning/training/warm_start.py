"""Weights of another run or of a published model as a start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn

from elf_lightning.checkpoints import load_model
from elf_lightning.checkpoints.bundle import check_weights
from elf_lightning.errors import UserError
from elf_lightning.network import ELFNetwork

TOLERANCE = 0.05
"""Difference of mean or standard deviation, in standard deviations, that is the same normalisation still."""


def warm_start(network: ELFNetwork, name_or_path: str) -> Mapping[str, Any]:
    """Give `network` the averaged weights of a checkpoint in any format that `load_model` reads.

    Returns:
        The checkpoint's decoding state, for `check_latents`; empty where the file does not say.

    Raises:
        UserError: in one line, if there is no such checkpoint or it holds another network.
    """
    try:
        bundle = load_model(name_or_path)
        check_weights(bundle.weights, network.state_dict())
    except UserError as error:
        raise UserError(f"model.init_from {name_or_path}: {error}") from error
    network.load_state_dict(bundle.weights)
    return bundle.decoding


def check_latents(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Compare what weights were trained on with what the data give.

    Warns where latents are normalised otherwise: training makes up for it, but starts worse.

    Args:
        theirs: decoding state that the weights came with.
        ours: decoding state of the data.

    Raises:
        UserError: if the network's ids stand for other tokens.
    """
    if theirs["kept_ids"] != ours["kept_ids"]:
        raise UserError(
            "model.init_from: its token head knows another restricted vocabulary than these data; give the "
            "text it was trained on, or weights trained with data.restrict_vocabulary false"
        )
    if not _close(theirs, ours):
        rank_zero_warn(
            "model.init_from: its latents were normalised otherwise than these data's; set data.latent_mean "
            "and data.latent_std to the values it was trained with"
        )


def _close(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    shift = torch.tensor(theirs["latent_mean"]) - torch.tensor(ours["latent_mean"])
    scale = theirs["latent_std"] - ours["latent_std"]
    return bool(max(float(shift.abs().max()), abs(scale)) <= TOLERANCE * theirs["latent_std"])
