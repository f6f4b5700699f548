"""What makes sampling fast changes nothing, and nothing is done at every step that once would do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.host_waits import WAYS_TO_WAIT, HostWaits
from torch import Tensor

from elf_lightning.network import ELFNetwork
from elf_lightning.sampling import Sampler, Step
from elf_lightning.sampling.field import NetworkDenoiser

CONFIGURATIONS: list[dict[str, Any]] = [
    {"solver": "sde", "guidance": 3.0},
    {"solver": "heun"},
    {"solver": "ode", "cfg_scale": 2.0},
]


@pytest.mark.parametrize("settings", CONFIGURATIONS)
def test_one_graph_serves_all_steps_and_batches(
    make_sampler: Any, make_prompt: Any, make_network: Callable[..., ELFNetwork], counter: Any, settings: Any
) -> None:
    network, prompt = make_network(), make_prompt(range(3), [2, 0, 5])
    eager = make_sampler(network, steps=6, **settings).sample(prompt, 0)
    assert counter.frame_count == 0
    compiled = make_sampler(network, compile=True, steps=6, **settings).sample(prompt, 0)
    assert counter.frame_count == 1
    make_sampler(network, compile=True, steps=9, **settings).sample(prompt, 1)
    assert counter.frame_count == 1, "neither another sampler, nor more steps"
    torch.testing.assert_close(compiled.latents, eager.latents, atol=1e-5, rtol=1e-5)
    assert torch.equal(compiled.tokens, eager.tokens)


def test_batches_of_all_sizes_share_a_graph(make_sampler: Any, make_prompt: Any, counter: Any) -> None:
    sampler = make_sampler(compile=True)
    for rows in (7, 5, 3, 2):
        sampler.sample(make_prompt(range(rows)), 0)
    assert counter.frame_count == 1


@pytest.mark.parametrize("tokens", [0, 4])
@pytest.mark.parametrize("solver", ["ode", "sde", "heun", "multistep"])
def test_a_prefix_is_made_once_for_each_time(
    make_sampler: Any, make_prompt: Any, make_network: Callable[..., ELFNetwork], solver: str, tokens: int
) -> None:
    network, made = make_network(num_guidance_tokens=tokens), []
    network.prefix.register_forward_hook(lambda module, given, out: made.append(len(out)))
    make_sampler(network, solver=solver, steps=6).sample(make_prompt(range(2)), 0)
    assert made == [1] * 6 + [2], "one sequence for each time, and those of decoding"


@torch.no_grad()
def test_denoiser_is_the_network(make_network: Callable[..., ELFNetwork]) -> None:
    network, z, self_cond = make_network(), torch.randn(3, 12, 16), torch.randn(3, 12, 16)
    denoiser = NetworkDenoiser(network, 3.0)
    expected = network.denoise(z, torch.full((3,), 0.4), torch.full((3,), 3.0), self_cond)
    for _ in range(2):
        torch.testing.assert_close(denoiser(z, 0.4, self_cond), expected, atol=1e-6, rtol=1e-5)


def waits(sampler: Sampler, prompt: Any, **observed: Any) -> int:
    """How often the host would wait for the device."""
    with HostWaits() as host:
        sampler.sample(prompt, 0, **observed)
    return host.seen.total()


@pytest.mark.parametrize("settings", CONFIGURATIONS)
def test_steps_do_not_wait_for_the_device(make_sampler: Any, make_prompt: Any, settings: Any) -> None:
    """As many values are read back in a run of 20 steps as in one of 2."""
    short, long = (make_sampler(times=[k / steps for k in range(steps + 1)], **settings) for steps in (2, 20))
    prompt = make_prompt(range(3), [2, 0, 5])
    assert waits(short, prompt) == waits(long, prompt)


@pytest.mark.parametrize("way", WAYS_TO_WAIT)
def test_a_step_that_waits_is_seen(make_sampler: Any, make_prompt: Any, way: str) -> None:
    sampler, prompt = make_sampler(steps=3), make_prompt(range(3), [2, 0, 5])
    waiting = waits(sampler, prompt, on_step=lambda step: WAYS_TO_WAIT[way](step.latents))
    assert waiting >= waits(sampler, prompt) + 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("settings", CONFIGURATIONS)
def test_steps_do_not_wait_for_a_gpu(
    make_sampler: Any, make_prompt: Any, make_network: Callable[..., ELFNetwork], settings: Any
) -> None:
    """Torch raises where they would, between the first step and the last."""
    sampler = make_sampler(make_network().cuda(), times=[0, 0.25, 0.5, 0.75, 1], **settings)

    def between(step: Step) -> None:
        torch.cuda.set_sync_debug_mode("error" if step.time < 1 else "default")

    try:
        sampler.sample(make_prompt(range(3), [2, 0, 5]).to("cuda"), 0, on_step=between)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_token_head_waits_for_the_end(
    make_sampler: Any, make_prompt: Any, make_network: Callable[..., ELFNetwork]
) -> None:
    network, order = make_network(), []
    network.latent_head.register_forward_hook(lambda *_: order.append("latents"))
    network.token_head.register_forward_hook(lambda *_: order.append("tokens"))
    make_sampler(network, steps=5).sample(make_prompt(range(2)), 0)
    assert order == ["latents"] * 5 + ["tokens"]


def test_results_are_ordinary_tensors(make_sampler: Any, make_prompt: Any) -> None:
    modes: list[bool] = []
    result = make_sampler(steps=3).sample(
        make_prompt(range(2)),
        0,
        trajectory_steps=[1],
        on_step=lambda step: modes.append(torch.is_inference_mode_enabled()),
    )
    assert modes == [True] * 3
    tensors: list[Tensor] = [result.latents, result.tokens, result.trajectory.latents]
    assert not any(tensor.is_inference() for tensor in tensors)
