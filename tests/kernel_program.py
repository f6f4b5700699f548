"""Programs that use Triton, which decides at its first import whether it compiles or interprets."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="not installed: pip install triton")


def output_of(program: Path) -> str:
    """What a program prints, which must succeed; without a GPU, Triton interprets its kernels."""
    interpreted = {} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}
    command = [sys.executable, str(program)]
    ended = subprocess.run(command, env=os.environ | interpreted, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
