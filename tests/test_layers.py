"""The tree keeps its floors: imports only go down, and the mathematics knows no Lightning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLAIN = [
    "flow",
    "network",
    "objectives",
    "sampling",
    "metrics",
    "encoders",
    "checkpoints",
    "optim",
    "reporting",
]
"""Packages that are plain torch."""
EVERYTHING_WITHOUT_LIGHTNING = f"""
import sys
from importlib import import_module

sys.modules["lightning"] = sys.modules["pytorch_lightning"] = None
for name in {PLAIN}:
    package = import_module(f"elf_lightning.{{name}}")
    for public in package.__all__:
        getattr(package, public)
"""


def test_plain_packages_are_usable_where_lightning_is_not() -> None:
    words = [sys.executable, "-c", EVERYTHING_WITHOUT_LIGHTNING]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
