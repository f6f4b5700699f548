"""The measuring itself."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from benchmarks.rounds import Rounds, Spread, alternate, arguments, report, rounds_table
from rich.table import Table


def test_ways_go_back_and_forth_after_the_warmup() -> None:
    calls: list[str] = []
    rounds = alternate({"one": lambda: calls.append("1"), "two": lambda: calls.append("2")}, 3, warmup=1)
    assert "".join(calls) == "12" + "12" + "21" + "12"
    assert {name: len(times) for name, times in rounds.seconds.items()} == {"one": 3, "two": 3}


def test_ratios_are_taken_within_each_round() -> None:
    rounds = Rounds({"slow": [2.0, 40.0, 4.0], "fast": [1.0, 10.0, 4.0]})
    assert rounds.ratio("fast", "slow") == Spread(median=2.0, low=1.0, high=4.0)
    assert rounds.time("slow") == Spread(median=4.0, low=2.0, high=40.0)


def test_a_report_is_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = arguments("Something.").parse_args(["--json", str(tmp_path / "new" / "result.json")])
    assert isinstance(options, argparse.Namespace)
    rounds = Rounds({"slow": [0.002], "fast": [0.001]})
    table = rounds_table("A comparison", rounds, "slow")
    assert isinstance(table, Table)
    report([table], {"ways": rounds.record("slow")}, options)
    printed = capsys.readouterr().out
    assert "A comparison" in printed
    assert "2.00 (2.00 to 2.00)" in printed
    written = json.loads(options.json.read_text())
    assert written["ways"]["fast"]["times_slow"]["median"] == 2
    assert written.keys() >= {"torch", "device", "threads", "date"}
