"""Distributions: their ranges, their quantiles, their repeatability."""

from __future__ import annotations

import pytest
import torch

from elf_lightning.errors import UserError
from elf_lightning.flow import GuidanceScale, LogitNormal


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_logit_normal_median_and_spread() -> None:
    logits = torch.logit(LogitNormal(-1.5, 0.8).sample(50_000, generator=generator()).double())
    assert logits.mean().item() == pytest.approx(-1.5, abs=0.02)
    assert logits.std().item() == pytest.approx(0.8, abs=0.02)


def test_guidance_scale_is_log_uniform_in_one_plus_w() -> None:
    scales = GuidanceScale(0.5, 5.0).sample(50_000, generator=generator())
    assert 0.5 <= scales.min() < 0.51
    assert 4.9 < scales.max() <= 5.0
    share = (torch.log1p(scales) - torch.log(torch.tensor(1.5))) / torch.log(torch.tensor(6 / 1.5))
    quartiles = torch.quantile(share, torch.tensor([0.25, 0.5, 0.75]))
    assert torch.allclose(quartiles, torch.tensor([0.25, 0.5, 0.75]), atol=0.01)


def test_same_generator_same_draws() -> None:
    assert torch.equal(
        LogitNormal().sample(4, 3, generator=generator()), LogitNormal().sample(4, 3, generator=generator())
    )


def test_impossible_distributions_are_refused() -> None:
    with pytest.raises(UserError, match="std"):
        LogitNormal(0.0, 0.0)
    with pytest.raises(UserError, match="guidance"):
        GuidanceScale(2.0, 1.0)
