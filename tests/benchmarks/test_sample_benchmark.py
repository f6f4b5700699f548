"""Ours and the baseline sample the same texts, for the FLOPs that are counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from benchmarks.measure import counted_flops
from benchmarks.sample import BASELINE, COMPILED, GRAPHS, KINDS, OURS, Case, counted, groups, main
from benchmarks.sizes import SIZES
from torch.nn.attention import SDPBackend, sdpa_kernel

SIZE = replace(SIZES["tiny"], batch_size=3)


@pytest.mark.parametrize("kind", KINDS)
def test_all_end_in_the_same_latents_and_tokens(kind: str) -> None:
    ends = {name: sampler() for name, sampler in Case.of(SIZE, kind, 5, "cpu").samplers().items()}
    assert len(ends) == 3
    latents, tokens = ends[BASELINE]
    assert len(tokens.unique()) > 5
    for found, chosen in ends.values():
        torch.testing.assert_close(found, latents, atol=2e-5, rtol=1e-4)
        assert torch.equal(chosen, tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_flops_are_those_of_real_sampling(kind: str) -> None:
    flops = counted(SIZE, kind, 5)
    for name, sampler in Case.of(SIZE, kind, 5, "cpu").samplers().items():
        # torch does not count the fused attention kernel of a CPU.
        with sdpa_kernel(SDPBackend.MATH):
            assert counted_flops(sampler) == flops[name], name


def test_each_group_has_the_baseline_and_compiles_anew() -> None:
    case = Case.of(SIZE, "sde", 5, "cpu")
    assert list(groups(case, compile=False, cuda=True)) == ["eager"]
    assert list(groups(case, compile=True, cuda=False)) == ["eager", COMPILED]
    found = groups(case, compile=True, cuda=True)
    assert {name: list(samplers) for name, samplers in found.items() if name != "eager"} == {
        COMPILED: [BASELINE, COMPILED], GRAPHS: [BASELINE, GRAPHS]
    }  # fmt: skip


def test_all_kinds_are_measured(
    run_measured: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    written = run_measured(main, "--steps", "2", "--batch-size", "2")
    shown = capsys.readouterr().out
    for kind in KINDS:
        assert f"{kind}: tiny, 2 sequences" in shown
        assert written[kind]["eager"][OURS]["times_baseline"]["median"] > 0
        assert written[kind]["eager"]["differences"][OURS]["tokens"] == 0


def test_flops_alone_need_no_sampling(run_measured: Callable[..., dict[str, Any]]) -> None:
    written = run_measured(main, "--flops-only")
    assert all(written[kind]["flops"][BASELINE] > written[kind]["flops"][OURS] for kind in KINDS)
    assert all("eager" not in written[kind] for kind in KINDS)


def test_what_is_not_to_be_compiled_is_left_out(run_measured: Callable[..., dict[str, Any]]) -> None:
    written = run_measured(main, "--steps", "1", "--kind", "sde", "--compile", "--eager-only")
    assert written["left_out"] == [f"sde, {COMPILED}: not compiled"]
    assert "ode with CFG" not in written
