"""The memory formula against what autograd keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from elf_lightning.network import ELFNetwork, NetworkConfig
from elf_lightning.network.memory import activation_bytes

LENGTH, LATENT = 52, 16
SHAPE = NetworkConfig(hidden_size=64, depth=2, num_heads=4, bottleneck_size=8)


def kept_bytes(shape: NetworkConfig, rows: int, mixed: bool) -> int:
    """Storage that one forward pass keeps, but for parameters and buffers."""
    network = ELFNetwork(shape, LATENT, 30, LENGTH)
    own = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    z, ones = torch.randn(rows, LENGTH, LATENT), torch.ones(rows)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        # As Lightning has it, without a cache.
        torch.autocast("cpu", torch.bfloat16, enabled=mixed, cache_enabled=False),
    ):
        hidden = network(z, ones, ones, 0 * ones, z)
    assert hidden.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("mixed", [False, True])
def test_blocks_keep_what_the_formula_says(mixed: bool) -> None:
    deeper = replace(SHAPE, depth=5)
    network = ELFNetwork(replace(SHAPE, depth=3), LATENT, 30, LENGTH)
    kept = kept_bytes(deeper, 4, mixed) - kept_bytes(SHAPE, 4, mixed)
    formula = activation_bytes(network, 4, LENGTH, compute_bytes=2 if mixed else 4)
    unfused_norms = 3 * 4 * (LENGTH + 12) * 16 * SHAPE.hidden_size
    assert formula + unfused_norms == pytest.approx(kept, rel=0.01)


def test_checkpointing_keeps_one_block_and_the_inputs_of_all() -> None:
    network = ELFNetwork(SHAPE, LATENT, 30, LENGTH)
    checkpointed = ELFNetwork(replace(SHAPE, gradient_checkpointing=True), LATENT, 30, LENGTH)
    inputs = SHAPE.depth * 4 * (LENGTH + 12) * 64 * 4
    expected = activation_bytes(network, 4, LENGTH, 4) // 2 + inputs
    assert activation_bytes(checkpointed, 4, LENGTH, 4) == expected
    assert activation_bytes(network, 4, LENGTH, 4, checkpointing=True) == expected
