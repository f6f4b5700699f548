"""Initial values of all parameters, as in the official code of arXiv 2605.10938."""

from __future__ import annotations

import torch
from torch import nn

from elf_lightning.network.conditioning import ModeTokens, ScalarTokens
from elf_lightning.network.heads import LatentHead
from elf_lightning.network.layers import ScalarEmbedding

EMBEDDING_STD = 0.02


def initialize(network: nn.Module, generator: torch.Generator | None = None) -> None:
    """Set every parameter of `network` in place.

    Matrices are Xavier-uniform and biases zero; the scalar embedders' matrices and all learned tokens are
    N(0, 0.02); norms start at one and the latent head at zero, so that the first `x_hat` is zero.

    Args:
        network: a module made of this package's layers.
        generator: source of the draws; torch's global generator by default.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, ScalarTokens | ModeTokens):
            nn.init.normal_(module.tokens, std=EMBEDDING_STD, generator=generator)
        elif isinstance(module, ScalarEmbedding):
            nn.init.normal_(module.expand.weight, std=EMBEDDING_STD, generator=generator)
            nn.init.normal_(module.out.weight, std=EMBEDDING_STD, generator=generator)
        elif isinstance(module, LatentHead):
            nn.init.zeros_(module.linear.weight)
