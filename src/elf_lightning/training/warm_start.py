"""Initial weights from another run or a published model."""

from __future__ import annotations

import torch
from lightning.pytorch.utilities import rank_zero_warn

from elf_lightning.checkpoints import load_model
from elf_lightning.checkpoints.bundle import check_weights
from elf_lightning.codec import TextCodec
from elf_lightning.errors import UserError
from elf_lightning.network import ELFNetwork

TOLERANCE = 0.05
"""Maximum difference, in standard deviations, between equivalent normalisations."""


def warm_start(network: ELFNetwork, name_or_path: str) -> TextCodec | None:
    """Load the averaged weights of a checkpoint, in any format that `load_model` reads, into `network`.

    Returns:
        The checkpoint's codec, for `check_latents`; None if the file does not contain one.

    Raises:
        UserError: if the checkpoint does not exist or contains another network.
    """
    try:
        bundle = load_model(name_or_path)
        check_weights(bundle.weights, network.state_dict())
    except UserError as error:
        raise UserError(f"model.init_from {name_or_path}: {error}") from error
    network.load_state_dict(bundle.weights)
    return bundle.config.codec


def check_latents(checkpoint: TextCodec, data: TextCodec) -> None:
    """Compare the ids and latents of initial weights with those of the data.

    Warns if latents are normalised differently: training adapts, from a worse start.

    Args:
        checkpoint: the codec of the weights.
        data: the codec of the data.

    Raises:
        UserError: if network ids stand for other tokens.
    """
    if checkpoint.kept_ids != data.kept_ids:
        raise UserError(
            "model.init_from: the weights were trained with another restricted vocabulary than that of these "
            "data; train on the same text, or start from weights trained with data.restrict_vocabulary false"
        )
    if not _close(checkpoint, data):
        rank_zero_warn(
            "model.init_from: the weights were trained on latents with another normalisation; set "
            "data.latent_mean and data.latent_std to the values they were trained with"
        )


def _close(checkpoint: TextCodec, data: TextCodec) -> bool:
    shift = torch.tensor(checkpoint.latent_mean) - torch.tensor(data.latent_mean)
    scale = checkpoint.latent_std - data.latent_std
    return bool(max(float(shift.abs().max()), abs(scale)) <= TOLERANCE * checkpoint.latent_std)
