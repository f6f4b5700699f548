"""Random batches to train on, and a random encoder."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.sizes import Size
from elf_lightning.batch import LatentBatch
from elf_lightning.encoders import PretrainedEncoder
from elf_lightning.flow import seeded_generator


def full_batch(ids: Tensor, latents: Tensor) -> LatentBatch:
    """Unconditional sequences (B, S) without padding, with their latents (B, S, C)."""
    on = torch.ones_like(ids, dtype=torch.bool)
    return LatentBatch(ids, on, ~on, on, ~on[:, 0], latents, full=True)


class RandomBatches:
    """Sequences of random tokens, each token with a latent of its own, which a network can learn.

    Drawn on the CPU, so that they are the same on every device.
    """

    def __init__(self, size: Size, device: torch.device | str) -> None:
        self.size = size
        generator = seeded_generator("latents")
        self._table = torch.randn(size.vocab_size, size.latent_size, generator=generator).to(device)

    def __call__(self, batch_size: int, number: int = 0) -> LatentBatch:
        """The batch with this number."""
        shape = (batch_size, self.size.max_length)
        ids = torch.randint(self.size.vocab_size, shape, generator=seeded_generator("tokens", number))
        ids = ids.to(self._table.device)
        return full_batch(ids, self._table[ids])


def random_encoder(size: Size, folder: str, device: torch.device) -> PretrainedEncoder:
    """A T5 with random weights and the latents and layers of `size`; `folder` holds it while it is loaded.

    With 512 latents and 6 layers it has the size of T5-small.
    """
    from transformers import T5Config, T5EncoderModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    config = T5Config(
        vocab_size=size.vocab_size, d_model=size.latent_size, d_kv=64, num_layers=size.encoder_layers,
        num_heads=max(1, size.latent_size // 64), d_ff=4 * size.latent_size,
    )  # fmt: skip
    T5EncoderModel(config).save_pretrained(folder)
    return PretrainedEncoder(folder).load().to(device)


@torch.no_grad()
def encoded(encoder: PretrainedEncoder, batch: LatentBatch) -> LatentBatch:
    """The batch with the encoder's latents in float32."""
    return replace(batch, latents=encoder(batch.input_ids, None))
