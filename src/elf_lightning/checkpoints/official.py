"""Converts names and orientation of official ELF state dicts (arXiv 2605.10938, official code)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_WHOLE_NAMES = {
    "latent_in.merge_self_cond": "self_cond_proj",
    "latent_in.down": "text_proj.proj1",
    "latent_in.up": "text_proj.proj2",
    "prefix.time.embedding.expand": "t_embedder.mlp_0",
    "prefix.time.embedding.out": "t_embedder.mlp_2",
    "prefix.guidance.embedding.expand": "self_cond_cfg_embedder.mlp_0",
    "prefix.guidance.embedding.out": "self_cond_cfg_embedder.mlp_2",
    "latent_head.norm": "final_layer.norm_final",
    "latent_head.linear": "final_layer.linear",
}
_EXACT_NAMES = {
    "prefix.time.tokens": "t_emb_tokens",
    "prefix.guidance.tokens": "self_cond_cfg_tokens",
    "prefix.mode.tokens": "mode_tokens",
    "token_head.project.weight": "proj_kernel",
    "token_head.project.bias": "proj_bias",
    "token_head.unembed.weight": "unembed_kernel",
    "token_head.unembed.bias": "unembed_bias",
}
_BLOCK_NAMES = {
    "attention_norm": "norm1",
    "attention.qkv": "attn.qkv",
    "attention.q_norm": "attn.q_norm",
    "attention.k_norm": "attn.k_norm",
    "attention.out": "attn.proj",
    "mlp_norm": "norm2",
    "mlp.gate_value": "mlp.w12",
    "mlp.out": "mlp.w3",
}
_TRANSPOSED = ("proj_kernel", "unembed_kernel")
_WRAPPERS = re.compile(r"\b(_orig_mod|module)\.")


def _renamed(name: str, exact: Mapping[str, str], whole: Mapping[str, str], block: Mapping[str, str]) -> str:
    if name in exact:
        return exact[name]
    if match := re.fullmatch(r"(blocks\.\d+\.)(.+)\.(weight|bias)", name):
        start, layer, kind = match.groups()
        return f"{start}{block.get(layer, layer)}.{kind}"
    layer, _, kind = name.rpartition(".")
    return f"{whole.get(layer, layer)}.{kind}"


def _inverse(names: Mapping[str, str]) -> dict[str, str]:
    return {value: key for key, value in names.items()}


def official_name(name: str) -> str:
    """The official name of one of our parameters."""
    return _renamed(name, _EXACT_NAMES, _WHOLE_NAMES, _BLOCK_NAMES)


def from_official(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An official state dict in our names; the two (in, out) kernels of the token head become (out, in).

    Prefixes added by `torch.compile` and DDP are removed.
    """
    weights = {_WRAPPERS.sub("", name): value for name, value in weights.items()}
    exact, whole, block = _inverse(_EXACT_NAMES), _inverse(_WHOLE_NAMES), _inverse(_BLOCK_NAMES)
    return {
        _renamed(name, exact, whole, block): value.T.contiguous() if name in _TRANSPOSED else value
        for name, value in weights.items()
    }


def to_official(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict with the official names, shapes and orientation; inverse of `from_official`."""
    renamed = {official_name(name): value for name, value in weights.items()}
    return {name: value.T.contiguous() if name in _TRANSPOSED else value for name, value in renamed.items()}
