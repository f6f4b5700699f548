"""Batches to train on that nobody has to read: random pieces, and latents of a random encoder."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.sizes import Size
from elf_lightning.batch import LatentBatch
from elf_lightning.encoders import PretrainedEncoder


def full_rows(ids: Tensor, latents: Tensor) -> LatentBatch:
    """Unconditional rows (B, S) without padding, with their latents (B, S, C)."""
    on = torch.ones_like(ids, dtype=torch.bool)
    return LatentBatch(ids, on, ~on, on, ~on[:, 0], latents)


def made_up_batch(size: Size, rows: int, device: torch.device) -> LatentBatch:
    """Unconditional rows of random pieces and latents, without padding."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(size.vocabulary_size, (rows, size.max_length), generator=generator)
    latents = torch.randn(rows, size.max_length, size.latent_size, generator=generator)
    return full_rows(ids, latents).to(device)


def random_encoder(size: Size, folder: str, device: torch.device) -> PretrainedEncoder:
    """A T5 with random weights, of the size's latents and layers; `folder` holds it until it is loaded.

    With 512 latents and 6 layers it is T5-small.
    """
    from transformers import T5Config, T5EncoderModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    config = T5Config(
        vocab_size=size.vocabulary_size, d_model=size.latent_size, d_kv=64, num_layers=size.encoder_layers,
        num_heads=max(1, size.latent_size // 64), d_ff=4 * size.latent_size,
    )  # fmt: skip
    T5EncoderModel(config).save_pretrained(folder)
    return PretrainedEncoder(folder).load().to(device)


@torch.no_grad()
def encoded(encoder: PretrainedEncoder, batch: LatentBatch) -> LatentBatch:
    """The batch with the encoder's latents, in float32."""
    ids = batch.input_ids
    mask = torch.ones(len(ids), 1, ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device)
    return replace(batch, latents=encoder(ids, mask).float())
