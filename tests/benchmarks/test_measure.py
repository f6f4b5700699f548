"""The measuring itself, and the command line that all measurements share."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.measure import Budget, Rounds, Spread, alternate, counted_flops, ratio_table, run


def test_functions_alternate_after_the_warmup() -> None:
    calls: list[str] = []
    rounds = alternate({"one": lambda: calls.append("1"), "two": lambda: calls.append("2")}, 3, warmup=1)
    assert "".join(calls) == "12" + "12" + "21" + "12"
    assert {name: len(times) for name, times in rounds.seconds.items()} == {"one": 3, "two": 3}


def test_ratios_are_taken_within_each_round() -> None:
    rounds = Rounds({"slow": [2.0, 40.0, 4.0], "fast": [1.0, 10.0, 4.0]})
    assert rounds.ratio("fast", "slow") == Spread(median=2.0, low=1.0, high=4.0)
    assert rounds.milliseconds("slow") == Spread(median=4000.0, low=2000.0, high=40000.0)


def test_flops_of_a_product_are_counted() -> None:
    assert counted_flops(lambda: torch.ones(2, 3) @ torch.ones(3, 5)) == 2 * 2 * 3 * 5


def test_the_budget_records_what_does_not_fit() -> None:
    budget = Budget(minutes=1)
    assert str(budget) == "left out: nothing"
    assert budget.allows("short", 30)
    assert not budget.allows("long", 90)
    assert not budget.allows("graphs", skip=True)
    assert budget.left_out == ["long: no time", "graphs: not compiled"]
    assert not Budget(minutes=0).allows("anything")


def measure(options: argparse.Namespace, budget: Budget) -> tuple[list[object], dict[str, Any]]:
    rounds = Rounds({"slow": [0.002], "fast": [0.001]})
    budget.allows("the rest", seconds=1e9)
    flops = {"slow": 3e9, "fast": 1e9}
    tables = [ratio_table("A comparison", rounds, "slow", flops, peak=1e12)]
    return tables, {"functions": rounds.record("slow"), "passed": not options.fail}


@pytest.mark.parametrize("words", [[], ["--fail"]])
def test_results_are_printed_and_written(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "new" / "result.json"
    monkeypatch.setattr(
        sys, "argv", ["script", "--json", str(file), "--steps", "3", "--minutes", "1", *words]
    )
    monkeypatch.setenv("COLUMNS", "150")
    with pytest.raises(SystemExit) as end:
        run(measure, "Something.", steps=16, kind=("one", "two"), number=int, fail=False)
    assert end.value.code == len(words)
    printed, written = capsys.readouterr().out, json.loads(file.read_text())
    assert "A comparison" in printed
    assert "2.00 (2.00 to 2.00)" in printed
    assert "left out: the rest: no time" in printed
    assert written["functions"]["fast"]["times_slow"]["median"] == 2
    assert (written["steps"], written["kind"], written["number"]) == (3, "one", None)
    assert written["left_out"] == ["the rest: no time"]
    assert written.keys() >= {"torch", "device", "threads", "date"}


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--size", "huge"], ["--kind", "three"]])
def test_impossible_options_are_refused(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["script", *words])
    with pytest.raises(SystemExit) as end:
        run(measure, "Something.", kind=("one", "two"))
    assert end.value.code == 2
