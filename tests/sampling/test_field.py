"""What solvers see of the network: memory, conditions and guidance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from elf_lightning.flow import KnownLatents, RectifiedPath
from elf_lightning.network import ELFNetwork
from elf_lightning.sampling import Euler, Sde, integrate
from elf_lightning.sampling.field import ClassifierFreeGuidance, LatentField, TwoPassGuidance

SHAPE = (3, 5, 4)


class Recorder:
    """A denoiser that answers `z/2 + self_cond + 1` and remembers its inputs."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, float, Tensor]] = []

    def __call__(self, z: Tensor, t: float, self_cond: Tensor) -> Tensor:
        self.calls.append((z, t, self_cond))
        return z / 2 + self_cond + 1


def known(*positions: int) -> KnownLatents:
    mask = torch.zeros(SHAPE[:2], dtype=torch.bool)
    mask[:, list(positions)] = True
    return KnownLatents(torch.randn(SHAPE), mask)


def test_no_known_latents_leave_latents_as_they_are() -> None:
    z = torch.randn(SHAPE)
    nothing = known()
    assert torch.equal(nothing.restore(z), z)
    assert replace(nothing, empty=True).restore(z) is z


def test_last_estimate_is_fed_back() -> None:
    denoiser = Recorder()
    field = LatentField(denoiser, RectifiedPath(), known())
    z = torch.randn(SHAPE)
    field(z, 0.1)
    first = field.x_hat
    field(z, 0.2)
    assert torch.equal(denoiser.calls[0][2], torch.zeros(SHAPE))
    assert torch.equal(denoiser.calls[1][2], first)


@pytest.mark.parametrize("t", [0.3, 0.99])  # before and after the bound of `1 - t`
def test_a_step_follows_the_velocity(t: float) -> None:
    path, z = RectifiedPath(), torch.randn(SHAPE)
    one, other = (LatentField(Recorder(), path, known(1), known(3)) for _ in range(2))
    other.condition, other.infill, other.x_hat = one.condition, one.infill, one.x_hat
    torch.testing.assert_close(one.step(z, t, 0.01), z + 0.01 * other(z, t))


def test_condition_never_moves() -> None:
    condition = known(0, 1)
    field = LatentField(Recorder(), RectifiedPath(), condition)
    z = integrate(
        field,
        field.clamp(torch.randn(SHAPE)),
        [0.0, 0.4, 0.9, 1.0],
        Sde(1.5),
        lambda: torch.randn(SHAPE),
    )
    assert torch.equal(z[:, :2], condition.latents[:, :2])
    assert torch.equal(field.x_hat[:, :2], condition.latents[:, :2])


def test_infill_follows_the_path_to_its_latents() -> None:
    infill, path, noise = known(2, 4), RectifiedPath(), torch.randn(SHAPE)
    field = LatentField(Recorder(), path, known(), infill)
    reached: list[tuple[float, Tensor]] = []
    integrate(
        field,
        path.noise_scale * noise,
        [0.0, 0.3, 0.7, 0.9],
        Euler(),
        lambda: noise,
        lambda _, t, z: reached.append((t, z)),
    )
    for t, z in reached:
        expected = path.interpolate(infill.latents, noise, torch.full((3,), t))
        torch.testing.assert_close(z[:, [2, 4]], expected[:, [2, 4]])


def test_classifier_free_guidance_is_one_batch_without_the_condition() -> None:
    denoiser, mask = Recorder(), known(0, 1).mask
    z, self_cond, t = torch.randn(SHAPE), torch.randn(SHAPE), 0.5
    guided = ClassifierFreeGuidance(denoiser, mask, 2.0)(z, t, self_cond)
    ((seen_z, seen_t, seen_self_cond),) = denoiser.calls
    assert seen_z.shape[0] == 6
    assert seen_t == t
    assert torch.equal(seen_z[:3], z)
    for hidden in (seen_z[3:], seen_self_cond[3:]):
        assert not hidden[:, :2].any()
    assert torch.equal(seen_z[3:, 2:], z[:, 2:])
    unguided = Recorder()
    x_c = unguided(z, t, self_cond)
    x_u = unguided(seen_z[3:], t, seen_self_cond[3:])
    torch.testing.assert_close(guided, x_u + 2.0 * (x_c - x_u))


def test_two_passes_guide_a_network_without_guidance_tokens() -> None:
    """`v_u + w (v_c - v_u)`, where only `v_c` sees the last estimate; both see the condition."""
    denoiser, condition = Recorder(), known(0)
    path = RectifiedPath()
    z, self_cond, t = torch.randn(SHAPE), torch.randn(SHAPE), 0.5
    guided = TwoPassGuidance(denoiser, condition.mask, 3.0)(z, t, self_cond)
    assert len(denoiser.calls) == 1
    clean, times = self_cond * condition.mask[..., None], torch.full((3,), t)
    v_c, v_u = (path.velocity(Recorder()(z, t, given), z, times) for given in (self_cond, clean))
    torch.testing.assert_close(path.velocity(guided, z, times), v_u + 3.0 * (v_c - v_u))


def test_guidances_stack_into_one_batch() -> None:
    denoiser, mask = Recorder(), known(0).mask
    both = ClassifierFreeGuidance(TwoPassGuidance(denoiser, mask, 3.0), mask, 2.0)
    assert both(torch.randn(SHAPE), 0.5, torch.randn(SHAPE)).shape == SHAPE
    assert denoiser.calls[0][0].shape[0] == 12


@pytest.mark.parametrize("tokens", [0, 4])
def test_sampler_guides_by_tokens_or_by_two_passes(
    make_network: Callable[..., ELFNetwork], make_sampler: Callable[..., Any], make_prompt: Any, tokens: int
) -> None:
    network = make_network(num_guidance_tokens=tokens)
    sizes: list[int] = []
    network.latent_in.register_forward_hook(lambda module, given, out: sizes.append(len(out)))
    make_sampler(network, steps=2, solver="ode").sample(make_prompt(range(3)), seed=0)
    assert sizes == ([3, 3, 3] if tokens else [6, 6, 3])


def test_no_step_waits_for_the_device() -> None:
    """Tensors without values: reading one back, as `.item()` does, is an error."""
    z = torch.empty(SHAPE, device="meta")
    nothing = KnownLatents(z, torch.empty(SHAPE[:2], dtype=torch.bool, device="meta"))
    denoiser = ClassifierFreeGuidance(Recorder(), nothing.mask, 2.0)
    field = LatentField(denoiser, RectifiedPath(), nothing)
    with torch.no_grad():
        for solver in (Euler(), Sde(1.5)):
            assert integrate(field, z, [0.0, 0.5, 1.0], solver, lambda: z).shape == z.shape
