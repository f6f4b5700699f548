"""FLOPs against torch's counter on the real computation and against formulas; the table of peaks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from elf_lightning.batch import LatentBatch
from elf_lightning.network import PRESETS, ELFNetwork, NetworkConfig
from elf_lightning.network.flops import bfloat16_peak, training_step_flops
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


def test_published_network_by_formula() -> None:
    with torch.device("meta"):
        network = ELFNetwork(PRESETS["elf-b"], latent_size=512, vocab_size=32_100, max_length=1024)
    hidden, feed_forward, positions = 768, 2048, 1024 + 12
    expand, enter = 2 * 2 * 256 * hidden, 2 * 1024 * 2 * 512 * 128
    prefix, once = expand + 2 * 2 * hidden**2, 2 * 512 * 2 * 512 * 128
    block = 2 * positions * hidden * (4 * hidden + 3 * feed_forward) + 4 * positions**2 * hidden
    backbone = enter + 2 * 1024 * 128 * hidden + prefix + 12 * block
    latent_head, token_head = 2 * 1024 * hidden * 512, 2 * 1024 * 512 * (hidden + 32_100)
    # The gradients of the inputs, which are not trained, are not computed.
    trained = 3 * (10 * backbone + 8 * latent_head + 2 * token_head) - 10 * (enter + expand)
    guided = 2 * 4 * (backbone + latent_head) - 4 * prefix
    assert training_step_flops(network, 10, 1024, 2, 4) == trained + guided + 5 * once


def test_recomputation_does_not_count() -> None:
    checkpointed = network_of(replace(SHAPES[0], gradient_checkpointing=True))
    flops = training_step_flops(checkpointed, ROWS, LENGTH, 2, 4)
    assert flops == training_step_flops(network_of(SHAPES[0]), ROWS, LENGTH, 2, 4)


@pytest.mark.parametrize("shape", SHAPES)
def test_training_step(shape: NetworkConfig) -> None:
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
    expected = training_step_flops(network, ROWS, LENGTH, draws.num_decode, draws.num_self_cond)
    assert counter.get_total_flops() == expected


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
