"""Two processes share the work and give the numbers of one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from elf_lightning.data import ELFDataModule


def test_two_ranks_give_the_same_texts_and_scores_as_one(
    evaluate: Callable[..., None],
    read: Callable[[str], list[dict[str, Any]]],
    data: ELFDataModule,
    tmp_path: Path,
    tiny_t5: str,
    tiny_scoring_model: str,
) -> None:
    evaluate()
    script = Path(__file__).with_name("two_ranks.py")
    command = [sys.executable, str(script), str(tmp_path), tiny_t5, tiny_scoring_model]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    two = {
        name: [json.loads(line) for line in (tmp_path / "two" / name).read_text().splitlines()]
        for name in ("samples.jsonl", "metrics.jsonl")
    }
    assert two["samples.jsonl"] == read("samples.jsonl")
    assert len(two["samples.jsonl"]) == 10  # 5 texts of each seed, an odd number for two
    for row, one in zip(two["metrics.jsonl"], read("metrics.jsonl"), strict=True):
        for name, value in one["metrics"].items():
            assert row["metrics"][name]["mean"] == pytest.approx(value["mean"], rel=1e-6)
