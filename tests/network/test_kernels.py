import json
from pathlib import Path

from tests.kernel_program import needs_triton, output_of

TOLERANCES = {
    "torch.bfloat16 softmax of large scores": 0.1,
    "torch.float32 softmax of large scores": 3e-5,
    "torch.bfloat16 blocks": 0.05,
    "torch.bfloat16 between layers": 0.03,  # Triton's interpreter does not round to the nearest
    "torch.bfloat16": 0.01,
    "torch.float32": 1e-5,
    "": 2e-6,  # in float32, without matrix products
}


@needs_triton
def test_the_kernels_and_their_gradients_equal_the_formulas() -> None:
    found = json.loads(output_of(Path(__file__).with_name("kernel_errors.py")))
    assert len(found) == 30
    for name, errors in found.items():
        tolerance = next(value for kind, value in TOLERANCES.items() if name.startswith(kind))
        assert all(error < tolerance for error in errors), found
