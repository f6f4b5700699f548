"""State dicts of the official ELF code (arXiv 2605.10938): names, orientation, and the sizes they imply."""

import re
from collections.abc import Mapping

from torch import Tensor

from elf_lightning.errors import UserError
from elf_lightning.network import NetworkConfig

_NAMES = {
    "latent_in.merge_self_cond": "self_cond_proj",
    "latent_in.down": "text_proj.proj1",
    "latent_in.up": "text_proj.proj2",
    "prefix.time.embedding.expand": "t_embedder.mlp_0",
    "prefix.time.embedding.out": "t_embedder.mlp_2",
    "prefix.time.tokens": "t_emb_tokens",
    "prefix.guidance.embedding.expand": "self_cond_cfg_embedder.mlp_0",
    "prefix.guidance.embedding.out": "self_cond_cfg_embedder.mlp_2",
    "prefix.guidance.tokens": "self_cond_cfg_tokens",
    "prefix.mode.tokens": "mode_tokens",
    "attention_norm": "norm1",
    "attention.qkv": "attn.qkv",
    "attention.q_norm": "attn.q_norm",
    "attention.k_norm": "attn.k_norm",
    "attention.out": "attn.proj",
    "mlp_norm": "norm2",
    "mlp.gate_value": "mlp.w12",
    "mlp.out": "mlp.w3",
    "latent_head.norm": "final_layer.norm_final",
    "latent_head.linear": "final_layer.linear",
    "token_head.project.weight": "proj_kernel",
    "token_head.project.bias": "proj_bias",
    "token_head.unembed.weight": "unembed_kernel",
    "token_head.unembed.bias": "unembed_bias",
}
"""Our name -> the official one, of a layer or a single weight; without the number of its block."""
_OUR_NAMES = {official: ours for ours, official in _NAMES.items()}
_TRANSPOSED = ("proj_kernel", "unembed_kernel")
_WRAPPERS = re.compile(r"\b(_orig_mod|module)\.")
_DEFAULT_MLP_RATIO = 4.0


def _renamed(name: str, names: Mapping[str, str]) -> str:
    number = re.match(r"blocks\.\d+\.", name)
    block = number[0] if number else ""
    inside = name.removeprefix(block)
    layer, _, kind = inside.rpartition(".")
    return block + (names.get(inside) or f"{names.get(layer, layer)}.{kind}")


def official_name(name: str) -> str:
    """The official name of one of our parameters."""
    return _renamed(name, _NAMES)


def from_official(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An official state dict in our names; the two (in, out) kernels of the token head become (out, in).

    Prefixes added by `torch.compile` and DDP are removed.
    """
    weights = {_WRAPPERS.sub("", name): value for name, value in weights.items()}
    return {_renamed(name, _OUR_NAMES): _oriented(name, value) for name, value in weights.items()}


def to_official(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict with the official names, shapes and orientation; inverse of `from_official`."""
    renamed = ((official_name(name), value) for name, value in weights.items())
    return {name: _oriented(name, value) for name, value in renamed}


def _oriented(official: str, value: Tensor) -> Tensor:
    return value.T.contiguous() if official in _TRANSPOSED else value


def infer_config(weights: Mapping[str, Tensor]) -> tuple[NetworkConfig, int, int]:
    """Configuration, latent size C and vocabulary size V of the network with these weights, in our names."""
    try:
        bottleneck_size, latent_size = weights["latent_in.down.weight"].shape
        hidden_size = weights["latent_in.up.weight"].shape[0]
        mlp_width = weights["blocks.0.mlp.out.weight"].shape[1]
        guidance = weights.get("prefix.guidance.tokens")
        usual = int(hidden_size * _DEFAULT_MLP_RATIO * 2 / 3) == mlp_width
        config = NetworkConfig(
            hidden_size=hidden_size,
            depth=1 + max(int(found[1]) for name in weights if (found := re.match(r"blocks\.(\d+)\.", name))),
            num_heads=hidden_size // weights["blocks.0.attention.q_norm.weight"].shape[0],
            bottleneck_size=bottleneck_size,
            # Otherwise one of the ratios that give this width, `int(ratio * H * 2/3)`.
            mlp_ratio=_DEFAULT_MLP_RATIO if usual else (mlp_width + 0.5) * 1.5 / hidden_size,
            num_time_tokens=weights["prefix.time.tokens"].shape[1],
            num_guidance_tokens=0 if guidance is None else guidance.shape[1],
            num_mode_tokens=weights["prefix.mode.tokens"].shape[1],
            self_conditioning="latent_in.merge_self_cond.weight" in weights,
        )
        return config, latent_size, weights["token_head.unembed.weight"].shape[0]
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise UserError(
            "these are not the weights of an ELF network: one is missing or has a wrong shape "
            f"({error}); use another file"
        ) from error
