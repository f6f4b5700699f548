"""Where a model runs, and in which precision."""

from __future__ import annotations

import pytest
import torch

from elf_lightning.errors import UserError
from elf_lightning.generation.pretrained import autocast_context, usable_precision
from elf_lightning.precision import PRECISIONS

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("capability", "expected"), [((9, 0), "bf16-mixed"), ((8, 0), "bf16-mixed"), ((7, 5), "32-true")]
)
def test_default_precision_is_bfloat16_on_gpus_that_compute_in_it(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert usable_precision(None, GPU) == expected
    assert usable_precision("32-true", GPU) == "32-true"
    assert usable_precision(None, CPU) == "32-true"


def test_unknown_precision() -> None:
    with pytest.raises(UserError, match="precision '64-true' is unknown; choose from 32-true, bf16-mix"):
        usable_precision("64-true", CPU)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_matrix_products_have_the_precision(precision: str) -> None:
    matrix = torch.ones(2, 2)
    with autocast_context(precision, CPU):
        assert (matrix @ matrix).dtype is getattr(torch, PRECISIONS[precision] or "float32")
    assert (matrix @ matrix).dtype is torch.float32


@pytest.mark.parametrize(
    ("precision", "device", "inside"),
    [("bf16-mixed", "cuda", "high"), ("32-true", "cuda", "highest"), ("bf16-mixed", "cpu", "highest")],
)
def test_only_mixed_precision_on_a_gpu_uses_tf32(precision: str, device: str, inside: str) -> None:
    assert torch.get_float32_matmul_precision() == "highest"
    with autocast_context(precision, torch.device(device)):
        assert torch.get_float32_matmul_precision() == inside
    assert torch.get_float32_matmul_precision() == "highest"
