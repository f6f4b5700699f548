"""The FLOPs formula against torch's counter, and the table of peaks."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from elf_lightning.batch import LatentBatch
from elf_lightning.network import ELFNetwork, NetworkConfig
from elf_lightning.network.flops import (
    backbone_flops,
    latent_head_flops,
    merging_flops,
    token_head_flops,
    training_step_flops,
)
from elf_lightning.network.peaks import bfloat16_peak
from elf_lightning.objectives import ELFObjective, StepKey

ROWS, LENGTH, LATENT, VOCAB = 10, 24, 20, 50
SHAPES = [
    NetworkConfig(hidden_size=32, depth=2, num_heads=2, bottleneck_size=8),
    NetworkConfig(
        hidden_size=36, depth=3, num_heads=3, bottleneck_size=8, num_guidance_tokens=0, mlp_ratio=3
    ),
]


def network_of(shape: NetworkConfig) -> ELFNetwork:
    return ELFNetwork(shape, LATENT, VOCAB, LENGTH)


@pytest.mark.parametrize("shape", SHAPES)
def test_forward(shape: NetworkConfig) -> None:
    network, z, ones = network_of(shape), torch.randn(3, LENGTH, LATENT), torch.ones(3)
    # The plain kernel: torch does not count the fused one on the CPU.
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        with FlopCounterMode(display=False) as denoise:
            network.denoise(z, ones, ones, z)
        with FlopCounterMode(display=False) as decode:
            network.recover(z, ones)
    backbone = backbone_flops(network, LENGTH)
    once = merging_flops(network)
    assert denoise.get_total_flops() == once + 3 * (backbone + latent_head_flops(network, LENGTH))
    assert decode.get_total_flops() == once + 3 * (backbone + token_head_flops(network, LENGTH))


@pytest.mark.parametrize("shape", SHAPES)
def test_training_step_with_row_selection(shape: NetworkConfig) -> None:
    network, objective = network_of(shape), ELFObjective()
    everywhere = torch.ones(ROWS, LENGTH, dtype=torch.bool)
    batch = LatentBatch(
        input_ids=torch.randint(VOCAB, (ROWS, LENGTH)),
        attention_mask=everywhere,
        condition_mask=~everywhere,
        loss_mask=everywhere,
        label_drop=torch.zeros(ROWS, dtype=torch.bool),
        latents=torch.randn(ROWS, LENGTH, LATENT),
    )
    draws = objective.draw(batch.latents.shape, StepKey(0, 0, 0), torch.device("cpu"))
    assert 0 < draws.num_decode < ROWS
    assert draws.num_self_cond
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        objective(network, batch, draws).total.backward()
    formula = training_step_flops(network, ROWS, LENGTH, draws.num_decode, draws.num_self_cond)
    assert counter.get_total_flops() == formula


def test_peaks_by_the_names_that_devices_give() -> None:
    assert bfloat16_peak("NVIDIA H100 80GB HBM3") == 989.4e12
    assert bfloat16_peak("NVIDIA H100 PCIe") == 756e12
    assert bfloat16_peak("NVIDIA A100-SXM4-80GB") == 312e12
    assert bfloat16_peak("NVIDIA A10G") == 70e12
    assert bfloat16_peak("NVIDIA L40S") == 362e12
    assert bfloat16_peak("NVIDIA GeForce RTX 4090") == 165.2e12
    assert bfloat16_peak("NVIDIA GeForce RTX 4090 Laptop GPU") is None
    assert bfloat16_peak("NVIDIA A100-SXM4-40GB MIG 1g.5gb") is None
    assert bfloat16_peak("Tesla K80") is None
