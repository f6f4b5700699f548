"""The baseline of sampling: the same texts as the sampler's, for the FLOPs that the formula says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from benchmarks.sample import KINDS, PLAIN, Case
from benchmarks.sizes import SIZES
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import sample


def case_of(kind: str) -> Case:
    return Case.of(SIZES["tiny"], kind, rows=3, steps=5, device="cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_all_ways_end_in_the_same_latents_and_tokens(kind: str) -> None:
    ends = {name: way() for name, way in case_of(kind).ways(compile=False).items()}
    assert len(ends) == 3
    latents, tokens = ends[PLAIN]
    assert len(tokens.unique()) > 5
    for found, chosen in ends.values():
        torch.testing.assert_close(found, latents, atol=2e-5, rtol=1e-4)
        assert torch.equal(chosen, tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_flops_are_what_torch_counts(kind: str) -> None:
    case = case_of(kind)
    for name, way in case.ways(compile=False).items():
        # The plain kernel: torch does not count the fused one on the CPU.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            way()
        assert counter.get_total_flops() == case.flops(name), name


def test_the_benchmark_writes_what_it_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sample.json"
    words = f"sample --size tiny --rounds 2 --steps 2 --rows 2 --json {file}"
    monkeypatch.setattr(sys, "argv", words.split())
    sample.main()
    shown = capsys.readouterr().out
    written = json.loads(file.read_text())
    assert written["size"] == "tiny"
    for kind in KINDS:
        assert f"Sampling {kind}" in shown
        assert written[kind]["sampler"]["times_plain"]["median"] > 0
        assert written[kind]["differences"]["sampler"]["tokens"] == 0
