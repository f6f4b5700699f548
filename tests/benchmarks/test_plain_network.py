"""The obvious forward pass is the network's, values and gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from benchmarks.plain_network import plain_hidden
from benchmarks.sizes import SIZES

TINY = SIZES["tiny"]


@pytest.mark.parametrize("changes", [{}, {"self_conditioning": False, "num_guidance_tokens": 0}])
@pytest.mark.parametrize("length", [TINY.max_length, 5])
def test_values_and_gradients_are_the_networks(changes: dict[str, int], length: int) -> None:
    network = replace(TINY, shape=replace(TINY.shape, **changes)).network()  # type: ignore[arg-type]
    z, self_cond = torch.randn(2, 3, length, TINY.latent_size)
    scalars = torch.rand(3, 3)
    found = {}
    for name, forward in {"fast": network, "plain": lambda *inputs: plain_hidden(network, *inputs)}.items():
        network.zero_grad()
        hidden = forward(z, *scalars, self_cond)
        hidden.square().mean().backward()
        gradients = [p.grad.clone() for p in network.parameters() if p.grad is not None]
        found[name] = [hidden.detach(), *gradients]
    assert len(found["fast"]) == len(found["plain"]) > 20
    torch.testing.assert_close(found["fast"], found["plain"], atol=2e-6, rtol=1e-3)
