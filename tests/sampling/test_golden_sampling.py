"""Recorded sampling runs, replayed step by step."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from elf_lightning.batch import LatentPromptBatch
from elf_lightning.flow import LogitNormal, RectifiedPath
from elf_lightning.network import ELFNetwork
from elf_lightning.sampling import Sampler, SamplingSettings, Step
from elf_lightning.sampling import sampler as sampler_module
from elf_lightning.sampling.decode import shift_left


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


class RecordedNoise:
    """The recorded draws in place of those of the sequences' numbers: the start, then one a call."""

    def __init__(self, run: Any) -> None:
        more = float(run.settings["noise_scale"]) * run.get("in/unit_noise", torch.empty(0))
        self.draws = [run["in/z0"], *more]

    def source(self, *_: Any) -> Callable[[], Tensor]:
        return lambda: self.draws.pop(0)


Replay = Callable[..., None]


@pytest.fixture
def replay(
    golden: Callable[[str], Any], golden_network: ELFNetwork, monkeypatch: pytest.MonkeyPatch
) -> Replay:
    """Samples as in a recording, as users do."""

    def sample(stem: str, compiled: bool = False) -> None:
        run = golden(stem)
        settings = settings_of(run.settings, run["in/t_steps"].tolist())
        path = RectifiedPath(float(run.settings["noise_scale"]), float(run.settings["t_eps"]))
        network = copy.deepcopy(golden_network) if compiled else golden_network  # which other tests use, too
        sampler = Sampler(network, path, settings, LogitNormal(), eos_id=-1, pad_id=0, compile=compiled)
        noise, prompt, steps = RecordedNoise(run), prompt_of(run), list[Step]()
        monkeypatch.setattr(sampler_module, "sequence_noise", noise.source)
        result = sampler.sample(prompt, 0, on_step=steps.append)

        close = partial(torch.testing.assert_close, atol=5e-5, rtol=1e-4)
        close(torch.stack([step.latents for step in steps]), run["out/z_trajectory"])
        close(torch.stack([step.estimate for step in steps]), run["out/x_trajectory"])
        close(result.latents, run["out/z_final"])
        assert torch.equal(result.tokens, shift_left(run["out/tokens"], prompt.condition_mask.sum(1), 0))
        assert not noise.draws, "every recorded draw is used"

    return sample


STEMS = ("sample_ode", "sample_sde", "sample_cond_cfg", "sample_cond_sde")


@pytest.mark.parametrize("stem", STEMS)
def test_golden_sampling(replay: Replay, stem: str) -> None:
    replay(stem)


@pytest.mark.parametrize("stem", STEMS)
def test_golden_sampling_compiled(replay: Replay, stem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.compiler.reset()
    monkeypatch.setenv("CXX", sys.executable)  # any program: nothing is built
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    replay(stem, compiled=True)


@pytest.mark.slow
def test_golden_sample_cond_cfg_in_compiled_kernels(replay: Replay) -> None:
    torch.compiler.reset()
    replay("sample_cond_cfg", compiled=True)
