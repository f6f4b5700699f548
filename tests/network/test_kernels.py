import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

TOLERANCES = {
    "torch.bfloat16 softmax of large scores": 0.1,
    "torch.float32 softmax of large scores": 3e-5,
    "torch.bfloat16 blocks": 0.05,
    "torch.bfloat16 between layers": 0.03,  # Triton's interpreter does not round to the nearest
    "torch.bfloat16": 0.01,
    "torch.float32": 1e-5,
    "": 2e-6,  # in float32, without matrix products
}


@pytest.mark.skipif(find_spec("triton") is None, reason="not installed: pip install triton")
def test_the_kernels_and_their_gradients_equal_the_formulas() -> None:
    # Without a GPU, Triton interprets them.
    interpreted = {} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}
    command = [sys.executable, str(Path(__file__).with_name("kernel_errors.py"))]
    ended = subprocess.run(command, env=os.environ | interpreted, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert len(found) == 30
    for name, errors in found.items():
        tolerance = next(value for kind, value in TOLERANCES.items() if name.startswith(kind))
        assert all(error < tolerance for error in errors), found
