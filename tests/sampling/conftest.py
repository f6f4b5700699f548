"""A small network with something to say: random weights, latent head included."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from elf_lightning.batch import LatentPromptBatch
from elf_lightning.flow import LogitNormal, RectifiedPath
from elf_lightning.network import ELFNetwork, NetworkConfig
from elf_lightning.sampling import Sampler, SamplingSettings

LENGTH, SIZE, VOCAB = 12, 16, 40
PromptMaker = Callable[..., LatentPromptBatch]
SamplerMaker = Callable[..., Sampler]


def random_network(**changes: int | float | bool) -> ELFNetwork:
    settings: dict[str, int | float | bool] = {
        "hidden_size": 32,
        "depth": 4,
        "num_heads": 2,
        "bottleneck_size": 8,
    }
    generator = torch.Generator().manual_seed(0)
    network = ELFNetwork(NetworkConfig(**(settings | changes)), SIZE, VOCAB, LENGTH, generator)  # type: ignore[arg-type]
    torch.nn.init.normal_(network.latent_head.linear.weight, std=0.2, generator=generator)
    torch.nn.init.normal_(network.token_head.unembed.weight, std=0.2, generator=generator)
    return network


@pytest.fixture
def make_network() -> Callable[..., ELFNetwork]:
    return random_network


@pytest.fixture
def make_sampler() -> SamplerMaker:
    def make(
        network: ELFNetwork | None = None, eos_id: int = -1, compile: bool = False, **settings: object
    ) -> Sampler:
        chosen = SamplingSettings(**{"steps": 4, **settings})  # type: ignore[arg-type]
        network = network or random_network()
        path, times = RectifiedPath(), LogitNormal()
        return Sampler(network, path, chosen, times, eos_id=eos_id, pad_id=0, compile=compile)

    return make


@pytest.fixture
def make_prompt() -> PromptMaker:
    def make(index: range, condition_lengths: list[int] | None = None) -> LatentPromptBatch:
        numbers = torch.tensor(list(index))
        lengths = torch.tensor(condition_lengths or [0] * len(numbers))
        mask = torch.arange(LENGTH) < lengths[:, None]
        latents = torch.randn(len(numbers), LENGTH, SIZE) * mask[..., None]
        ids = torch.full((len(numbers), LENGTH), 5) * mask
        return LatentPromptBatch(numbers, ids, mask, latents)

    return make
