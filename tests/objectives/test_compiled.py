"""A compiled network in the objective: few graphs, the same numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.testing import assert_close

from elf_lightning.batch import LatentBatch
from elf_lightning.network import ELFNetwork, NetworkConfig
from elf_lightning.objectives import ELFObjective, StepKey

SHAPE = NetworkConfig(hidden_size=16, depth=2, num_heads=2, bottleneck_size=8)
CPU, ROWS, LENGTH = torch.device("cpu"), 12, 6
COUNTS = [(3, 8), (3, 2), (2, 6), (0, 5), (12, 0), (2, 4), (1, 3)]


def network_of(shape: NetworkConfig) -> ELFNetwork:
    network = ELFNetwork(shape, 8, 20, LENGTH, generator=torch.Generator().manual_seed(0))
    torch.nn.init.normal_(
        network.latent_head.linear.weight, std=0.1, generator=torch.Generator().manual_seed(1)
    )
    return network


@pytest.mark.parametrize(("checkpointing", "mixed"), [(False, False), (True, True)])
def test_row_selection_keeps_two_graphs_a_call_site_and_the_numbers(checkpointing: bool, mixed: bool) -> None:
    torch.compiler.reset()
    shape = replace(SHAPE, gradient_checkpointing=checkpointing)
    counter = CompileCounterWithBackend("aot_eager")
    plain, compiled = network_of(shape), network_of(shape)
    compiled.compile(backend=counter)
    everywhere = torch.ones(ROWS, LENGTH, dtype=torch.bool)
    objective, graphs = ELFObjective(), []
    for number, (num_decode, num_self_cond) in enumerate(COUNTS):
        latents, ids = torch.randn(ROWS, LENGTH, 8), torch.randint(20, (ROWS, LENGTH))
        batch = LatentBatch(ids, everywhere, ~everywhere, everywhere, ~everywhere[:, 0], latents)
        draws = objective.draw(latents.shape, StepKey(0, 0, number), CPU)
        results = []
        for network in (plain, compiled):
            network.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                total = objective(network, batch, draws.with_counts(num_decode, num_self_cond)).total
            total.backward()
            results.append((total, [p.grad for p in network.parameters()]))
        assert_close(*results, rtol=2e-2 if mixed else 1e-4, atol=2e-2 if mixed else 1e-5)
        graphs.append(counter.frame_count)
    # One with gradient, and one without, for any number of rows.
    assert graphs == [2] * len(COUNTS)


def test_training_passes_alone_run_as_cuda_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """With CUDA graphs whose results the next one overwrites, as on a GPU, though nothing is compiled."""
    replays, result = list[bool](), torch.empty(2, LENGTH, SHAPE.hidden_size)

    def compile(
        function: Callable[..., Tensor], *, options: dict[str, bool] | None = None, **_: object
    ) -> Any:
        def replay(*args: Any) -> Tensor:
            hidden = function(*args)
            replays.append(hidden.requires_grad)
            return hidden if hidden.requires_grad else result.copy_(hidden)

        return replay if (options or {}).get("triton.cudagraphs") else function

    monkeypatch.setattr(torch, "compile", wraps(torch.compile)(compile))
    network, plain = network_of(SHAPE), network_of(SHAPE)
    z, other, ones = torch.randn(2, LENGTH, 8), torch.randn(2, LENGTH, 8), torch.ones(2)
    network.cuda_graphs = True
    network(z, ones, ones, ones)
    assert not replays, "not compiled yet"
    network.compile()
    network(z, ones, ones, ones)
    network.eval()(z, ones, ones, ones)
    network.train()
    copied = copy.deepcopy(network)
    copied(z, ones, ones, ones)
    assert (copied.cuda_graphs, replays) == (False, [True])
    network.requires_grad_(False)  # no gradient, as in `no_grad`
    hidden = network(z, ones, ones, ones)
    network(other, ones, ones, ones)
    assert_close(hidden, plain(z, ones, ones, ones))
    assert replays == [True, False, False]
    network.cuda_graphs = False
    network(z, ones, ones, ones)
    network.cuda_graphs = True
    for chosen in ({"backend": "eager"}, {"mode": "default"}, {"options": {"triton.cudagraphs": False}}):
        network.compile(**chosen)
        network(z, ones, ones, ones)
    assert replays == [True, False, False]
    network.compile(options=None)
    network(z, ones, ones, ones)
    assert replays == [True, False, False, False]


def test_a_compiled_network_is_saved_and_copied_as_any_other() -> None:
    torch.compiler.reset()
    counter = CompileCounterWithBackend("eager")
    network, plain = network_of(SHAPE), network_of(SHAPE)
    network.compile(backend=counter)
    z, ones = torch.randn(2, LENGTH, 8), torch.ones(2)
    assert_close(network.denoise(z, ones, ones, z), plain.denoise(z, ones, ones, z))
    assert counter.frame_count == 1
    assert network.state_dict().keys() == plain.state_dict().keys()
    copied = copy.deepcopy(network)
    with torch.no_grad():
        copied.latent_head.linear.bias.add_(1)
        next(copied.blocks.parameters()).zero_()
    assert not torch.equal(copied.denoise(z, ones, ones, z), plain.denoise(z, ones, ones, z))
    assert_close(network.denoise(z, ones, ones, z), plain.denoise(z, ones, ones, z))
    assert counter.frame_count == 1
