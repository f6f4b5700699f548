"""The model FLOPs utilisation: FLOPs of the network, and peak rates of devices.

`torch.utils.flop_counter` runs once per network size and length on meta tensors, which have no values. It
counts matrix products (a multiply and an add are 2 FLOPs), and for attention the two products with the whole
(N, N) matrix. Norms, activations, rotations and the optimizer are left out, as is recomputation under
gradient checkpointing, which is not work of the model (Chowdhery et al. 2022, arXiv 2204.02311, appendix B).
"""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from elf_lightning.network.config import NetworkConfig
from elf_lightning.network.transformer import ELFNetwork

BFLOAT16_PEAKS = {
    "GB200": 2.5e15, "B200": 2.25e15, "RTX 5090": 209.5e12,
    "H200": 989.4e12, "GH200": 989.4e12, "H100": 989.4e12, "H100 PCIe": 756e12, "H100 NVL": 835.5e12,
    "H800": 989.4e12, "H20": 148e12,
    "A100": 312e12, "A800": 312e12, "A40": 149.7e12, "A30": 165e12, "A10G": 70e12, "A10": 125e12,
    "RTX A6000": 154.8e12, "RTX 3090": 71e12,
    "L40S": 362e12, "L40": 181e12, "L4": 121e12, "RTX 6000 Ada": 364e12, "RTX 4090": 165.2e12,
    "MI300X": 1307.4e12,
}  # fmt: skip
"""Dense bfloat16 FLOPs per second with float32 accumulation, by product.

From data sheets and architecture white papers; half of a figure that is given with sparsity. Power limits and
clocks may keep a machine below it.
"""
_OTHER_PRODUCTS = {"laptop", "mig", "ti", "super"}
"""Words that turn the name of one product into that of another."""


def training_step_flops(
    network: ELFNetwork, rows: int, length: int, decode_rows: float, self_cond_rows: float
) -> float:
    """Forward and backward pass of a micro-batch of `rows` sequences, each computed as far as its mode needs.

    Every sequence, of `length` tokens with padding, goes through the backbone with gradient, and through the
    head of its mode. Self-conditioning sequences also go twice through backbone and latent head without
    gradient, with one prefix for both. A mean of `decode_rows`, such as `0.2 * rows`, gives the mean.
    """
    sizes = (network.config, network.latent_size, network.vocab_size, length)
    flops = _count(*sizes, backward=True)
    total = rows * flops["backbone"] + flops["once"] + decode_rows * flops["token_head"]
    total += (rows - decode_rows) * flops["latent_head"]
    if self_cond_rows:
        flops = _count(*sizes, backward=False)
        total += 2 * (self_cond_rows * (flops["backbone"] + flops["latent_head"]) + flops["once"])
        total -= self_cond_rows * flops["prefix"]
    return total


@lru_cache
def _count(
    config: NetworkConfig, latent_size: int, vocab_size: int, length: int, backward: bool
) -> dict[str, int]:
    """FLOPs of one sequence by part; `once` is the cost of a call that does not depend on its sequences."""
    with torch.device("meta"):
        # One block is enough: the others cost the same.
        shallow = replace(config, depth=1, gradient_checkpointing=False)
        network = ELFNetwork(shallow, latent_size, vocab_size, length)
        hidden = torch.empty(1, length, config.hidden_size, requires_grad=True)
        positions = torch.empty(1, len(network.rotary), config.hidden_size, requires_grad=True)
        z, scalar = torch.empty(2, length, latent_size), torch.empty(2)

    def measure(part: Callable[..., Tensor], *inputs: Tensor | None) -> int:
        # Fused attention kernels are not counted on every device; the plain one always is.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            result = part(*inputs)
            if backward:
                result.backward(torch.empty_like(result))  # type: ignore[no-untyped-call]
        total: int = counter.get_total_flops()
        return total

    one = measure(network, z[:1], scalar[:1], scalar[:1], scalar[:1], z[:1])
    two = measure(network, z, scalar, scalar, scalar, z)
    block = measure(network.blocks[0], positions, network.rotary, None)
    return {
        "backbone": two - one + (config.depth - 1) * block,
        "once": 2 * one - two,
        "prefix": measure(network.prefix, scalar[:1], scalar[:1], scalar[:1]),
        "latent_head": measure(network.latent_head, hidden),
        "token_head": measure(network.token_head, hidden),
    }


def bfloat16_peak(name: str) -> float | None:
    """Dense bfloat16 FLOPs per second by `torch.cuda.get_device_name`; None if it is not in the table."""
    if _words(name) & _OTHER_PRODUCTS:
        return None
    matches = (product for product in BFLOAT16_PEAKS if _words(product) <= _words(name))
    product = max(matches, key=len, default=None)
    return None if product is None else BFLOAT16_PEAKS[product]


def device_peak(device: torch.device) -> float | None:
    """`bfloat16_peak` of a device; None for a CPU or an unknown accelerator."""
    return bfloat16_peak(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", name.lower()))
