"""Infers the sizes of a network from its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from elf_lightning.errors import UserError
from elf_lightning.network import NetworkConfig

_DEFAULT_MLP_RATIO = 4.0


def infer_config(weights: Mapping[str, Tensor]) -> tuple[NetworkConfig, int, int]:
    """Configuration, latent size C and vocabulary size V of the network with these weights.

    Args:
        weights: a state dict with our names.

    Raises:
        UserError: if they are not the weights of an ELF network.
    """
    try:
        bottleneck_size, latent_size = weights["latent_in.down.weight"].shape
        hidden_size = weights["latent_in.up.weight"].shape[0]
        head_size = weights["blocks.0.attention.q_norm.weight"].shape[0]
        mlp_width = weights["blocks.0.mlp.out.weight"].shape[1]
        config = NetworkConfig(
            hidden_size=hidden_size,
            depth=1 + max(int(found[1]) for name in weights if (found := re.match(r"blocks\.(\d+)\.", name))),
            num_heads=hidden_size // head_size,
            bottleneck_size=bottleneck_size,
            mlp_ratio=_mlp_ratio(hidden_size, mlp_width),
            num_time_tokens=weights["prefix.time.tokens"].shape[1],
            num_guidance_tokens=_tokens(weights, "prefix.guidance.tokens"),
            num_mode_tokens=weights["prefix.mode.tokens"].shape[1],
            self_conditioning="latent_in.merge_self_cond.weight" in weights,
        )
        return config, latent_size, weights["token_head.unembed.weight"].shape[0]
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(
            f"not the weights of an ELF network: {error} is missing or has a wrong shape; use another file"
        ) from error


def _tokens(weights: Mapping[str, Tensor], name: str) -> int:
    return weights[name].shape[1] if name in weights else 0


def _mlp_ratio(hidden_size: int, width: int) -> float:
    """A ratio with `int(ratio * H * 2/3)` equal to the feed-forward width; the default if possible."""
    if int(hidden_size * _DEFAULT_MLP_RATIO * 2 / 3) == width:
        return _DEFAULT_MLP_RATIO
    return (width + 0.5) * 1.5 / hidden_size
