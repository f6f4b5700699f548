"""The table of FLOPs: what the formulas of the single benchmarks say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from benchmarks.sample import KINDS, ONE_HEAD, PLAIN, SAMPLER, Case
from benchmarks.sizes import SIZES

from benchmarks import flops


def test_sampling_is_counted_as_it_is_measured() -> None:
    size, found = SIZES["tiny"], flops.counted("tiny")
    names = {SAMPLER: "", PLAIN: ", plain", ONE_HEAD: ", one head"}
    for kind, name in zip(KINDS, ("sampling", "sampling with CFG"), strict=True):
        case = Case.of(size, kind, size.batch_size, flops.STEPS, "cpu")
        for way, suffix in names.items():
            assert found[name + suffix] == case.flops(way)


def test_the_table_is_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "flops.json"
    monkeypatch.setattr(flops, "SIZES", {"tiny": SIZES["tiny"]})
    monkeypatch.setattr(sys, "argv", f"flops --json {file}".split())
    flops.main()
    assert "tiny, training, plain" in capsys.readouterr().out
    written = json.loads(file.read_text())["sizes"]["tiny"]
    assert all(ratio > 1 for ratio in written["ratios"].values())
    assert set(written["ratios"]) < set(written["flops"])
