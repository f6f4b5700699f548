"""Measurements are run as from a shell, as small as can be."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Measured = Callable[..., dict[str, Any]]


@pytest.fixture
def run_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Measured:
    """Runs the `main` of a measurement at the tiny size on the CPU; returns what it has written."""

    def call(main: Callable[[], None], *words: str, status: int = 0) -> dict[str, Any]:
        file = tmp_path / "result.json"
        tiny = ["--device", "cpu", "--size", "tiny", "--rounds", "2"]
        monkeypatch.setattr(sys, "argv", ["script", *tiny, "--json", str(file), *words])
        monkeypatch.setenv("COLUMNS", "150")
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == status
        return dict(json.loads(file.read_text()))

    return call
