"""The sizes at which speed is measured."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from elf_lightning.network import PRESETS, ELFNetwork, NetworkConfig
from elf_lightning.objectives import ELFObjective


@dataclass(frozen=True)
class Size:
    """A network, the batches it is trained on, and its objective."""

    config: NetworkConfig
    latent_size: int
    vocab_size: int
    max_length: int
    batch_size: int
    encoder_layers: int = 6
    objective: ELFObjective = ELFObjective()

    def network(self, device: torch.device | str = "cpu", seed: int = 0) -> ELFNetwork:
        """A network of this size; equal seeds give equal weights.

        The latent head starts at zero, and then nothing behind it would have a gradient: it is given other
        values. On the device `meta` the network has shapes and no weights.
        """
        kind = torch.device(device).type
        generator = None if kind == "meta" else torch.Generator().manual_seed(seed)
        with torch.device("meta" if kind == "meta" else "cpu"):
            network = ELFNetwork(self.config, self.latent_size, self.vocab_size, self.max_length, generator)
        torch.nn.init.normal_(network.latent_head.linear.weight, std=0.02, generator=generator)
        return network if kind in ("cpu", "meta") else network.to(device)


def _published(preset: str, batch_size: int) -> Size:
    """A published size with the latents and the vocabulary of T5-small."""
    return Size(PRESETS[preset], 512, vocab_size=32_100, max_length=1024, batch_size=batch_size)


SIZES = {
    "tiny": Size(
        NetworkConfig(hidden_size=32, depth=2, num_heads=2, bottleneck_size=16),
        latent_size=24,
        vocab_size=200,
        max_length=16,
        batch_size=8,
        encoder_layers=1,
    ),
    "bible": Size(
        NetworkConfig(
            hidden_size=128, depth=4, num_heads=4, num_time_tokens=2, num_guidance_tokens=2, num_mode_tokens=2
        ),
        latent_size=384,
        vocab_size=7_713,
        max_length=64,
        batch_size=32,
        encoder_layers=4,
        objective=ELFObjective(decode_probability=0.25, decode_noise_scale=2.0),
    ),
    "books": Size(
        NetworkConfig(hidden_size=384, depth=12, num_heads=6),
        latent_size=384,
        vocab_size=25_856,
        max_length=128,
        batch_size=512,
        encoder_layers=4,
        objective=ELFObjective(decode_probability=0.25, decode_noise_scale=3.0),
    ),
    "elf-b": _published("elf-b", 64),
    "elf-m": _published("elf-m", 32),
    "elf-l": _published("elf-l", 16),
}
"""`bible` and `books` are `conf/bible.yaml` and `conf/books.yaml`, with the vocabularies of their corpora."""
