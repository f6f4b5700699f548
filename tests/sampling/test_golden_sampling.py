"""Recorded sampling runs, replayed step by step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from elf_lightning.batch import LatentPromptBatch
from elf_lightning.flow import LogitNormal, RectifiedPath
from elf_lightning.network import ELFNetwork
from elf_lightning.sampling import Sampler, SamplingSettings, integrate, make_solver
from elf_lightning.sampling.decode import decode_tokens


def settings_of(recorded: dict[str, str], times: list[float]) -> SamplingSettings:
    return SamplingSettings(
        solver="sde" if recorded["method"] == "sde" else "ode",
        gamma=float(recorded["gamma"]),
        guidance=float(recorded["self_cond_cfg_scale"]),
        cfg_scale=float(recorded["cfg_scale"]),
        times=times,
    )


def prompt_of(run: dict[str, Tensor]) -> LatentPromptBatch:
    z0 = run["in/z0"]
    mask = run.get("in/cond_seq_mask", torch.zeros(z0.shape[:2])).bool()
    latents = run.get("in/cond_seq", torch.zeros_like(z0))
    return LatentPromptBatch(
        torch.arange(len(z0)), torch.zeros(z0.shape[:2], dtype=torch.long), mask, latents
    )


@torch.no_grad()
def replay(run: Any, network: ELFNetwork, compiled: bool = False) -> None:
    times = run["in/t_steps"].tolist()
    settings = settings_of(run.settings, times)
    path = RectifiedPath(float(run.settings["noise_scale"]), float(run.settings["t_eps"]))
    sampler = Sampler(network, path, settings, LogitNormal(), eos_id=1, pad_id=0, compile=compiled)
    field = sampler._field(prompt_of(run), None, times)
    noise = iter(path.noise_scale * run.get("in/unit_noise", torch.empty(0)))
    z_steps, x_steps = [], []

    def keep(number: int, t: float, z: Tensor) -> None:
        z_steps.append(z)
        x_steps.append(field.x_hat)

    start = field.clamp(run["in/z0"])
    z = integrate(field, start, times, make_solver(settings), lambda: next(noise), keep)

    torch.testing.assert_close(torch.stack(z_steps), run["out/z_trajectory"], atol=5e-5, rtol=1e-4)
    torch.testing.assert_close(torch.stack(x_steps), run["out/x_trajectory"], atol=5e-5, rtol=1e-4)
    torch.testing.assert_close(z, run["out/z_final"], atol=5e-5, rtol=1e-4)
    generators = [torch.Generator()] * len(z)
    assert torch.equal(decode_tokens(network, z, settings, generators), run["out/tokens"])
    assert next(noise, None) is None, "every recorded draw is used"


@pytest.fixture
def run_golden(golden: Callable[[str], Any], golden_network: ELFNetwork) -> Callable[[str], None]:
    return lambda stem: replay(golden(stem), golden_network)


def test_golden_sample_cond_cfg_compiled(
    golden: Callable[[str], Any], golden_network: ELFNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    replay(golden("sample_cond_cfg"), golden_network, compiled=True)


def test_golden_sample_ode(run_golden: Callable[[str], None]) -> None:
    run_golden("sample_ode")


def test_golden_sample_sde(run_golden: Callable[[str], None]) -> None:
    run_golden("sample_sde")


def test_golden_sample_cond_cfg(run_golden: Callable[[str], None]) -> None:
    run_golden("sample_cond_cfg")


def test_golden_sample_cond_sde(run_golden: Callable[[str], None]) -> None:
    run_golden("sample_cond_sde")
