"""Weights of another run or of a published model to start from."""

from __future__ import annotations

import torch
from lightning.pytorch.utilities import rank_zero_warn

from elf_lightning.checkpoints import load_model
from elf_lightning.checkpoints.bundle import check_weights
from elf_lightning.codec import TextCodec
from elf_lightning.errors import UserError
from elf_lightning.network import ELFNetwork

TOLERANCE = 0.05
"""Largest difference, in standard deviations, that still counts as the same normalisation."""


def warm_start(network: ELFNetwork, name_or_path: str) -> TextCodec | None:
    """Give `network` the averaged weights of a checkpoint in any format that `load_model` reads.

    Returns:
        The checkpoint's codec, for `check_latents`; None where the file does not say.

    Raises:
        UserError: in one line, if there is no such checkpoint or it holds another network.
    """
    try:
        bundle = load_model(name_or_path)
        check_weights(bundle.weights, network.state_dict())
    except UserError as error:
        raise UserError(f"model.init_from {name_or_path}: {error}") from error
    network.load_state_dict(bundle.weights)
    return bundle.config.codec


def check_latents(checkpoint: TextCodec, data: TextCodec) -> None:
    """Compare what the weights were trained on with what the data give.

    Warns where latents are normalised otherwise: training makes up for it, but starts worse.

    Args:
        checkpoint: the codec that the weights came with.
        data: the codec of the data.

    Raises:
        UserError: if the network's ids stand for other tokens.
    """
    if checkpoint.kept_ids != data.kept_ids:
        raise UserError(
            "model.init_from: its token head was trained on another restricted vocabulary than these data "
            "have; give the text it was trained on, or weights trained with data.restrict_vocabulary false"
        )
    if not _close(checkpoint, data):
        rank_zero_warn(
            "model.init_from: its latents were normalised otherwise than these data's; set data.latent_mean "
            "and data.latent_std to the values it was trained with"
        )


def _close(checkpoint: TextCodec, data: TextCodec) -> bool:
    shift = torch.tensor(checkpoint.latent_mean) - torch.tensor(data.latent_mean)
    scale = checkpoint.latent_std - data.latent_std
    return bool(max(float(shift.abs().max()), abs(scale)) <= TOLERANCE * checkpoint.latent_std)
