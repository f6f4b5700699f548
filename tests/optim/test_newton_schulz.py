"""The iteration against its definition, in double precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from elf_lightning.optim.newton_schulz import COEFFICIENTS, EPS, ITERATIONS, orthogonalize

SHAPES = [(1, 1), (1, 7), (7, 1), (16, 16), (16, 24), (25, 16), (16, 96), (130, 16)]


def by_singular_values(matrix: Tensor, floor: float = 0.0) -> Tensor:
    """The quintic applied to the singular values themselves."""
    a, b, c = COEFFICIENTS
    normalised = matrix.double() / (matrix.double().norm() + floor)
    left, values, right = torch.linalg.svd(normalised, full_matrices=False)
    for _ in range(ITERATIONS):
        values = a * values + b * values**3 + c * values**5
    return (left * values) @ right


@pytest.mark.parametrize("shape", SHAPES)
def test_every_matrix_of_a_batch_is_orthogonalised(shape: tuple[int, int]) -> None:
    matrices = torch.randn(3, *shape) * torch.tensor([1e-4, 1.0, 1e3])[:, None, None]
    result = orthogonalize(matrices)
    assert result.shape == matrices.shape
    for one, expected in zip(result, matrices, strict=True):
        torch.testing.assert_close(one.double(), by_singular_values(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(192, 192), (192, 600), (600, 192)])
@pytest.mark.parametrize("decades", [1, 3, 6])
def test_nearly_singular_matrices_are_orthogonalised(shape: tuple[int, int], decades: int) -> None:
    short = min(shape)
    left, right = (torch.linalg.qr(torch.randn(side, short))[0] for side in shape)
    matrix = (left * torch.logspace(0, -decades, short)) @ right.T
    result = orthogonalize(matrix[None])[0]
    torch.testing.assert_close(result.double(), by_singular_values(matrix), rtol=0, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e8])
@pytest.mark.parametrize("shape", [(8, 8), (8, 40)])
def test_matrices_of_every_scale_are_orthogonalised(shape: tuple[int, int], scale: float) -> None:
    matrix = scale * torch.randn(shape)
    expected = by_singular_values(matrix, floor=EPS)
    torch.testing.assert_close(orthogonalize(matrix[None])[0].double(), expected, rtol=1e-4, atol=1e-4)


def test_zeros_stay_zeros() -> None:
    assert not orthogonalize(torch.zeros(2, 4, 12)).any()


def test_bfloat16_is_the_function_of_the_package() -> None:
    result = orthogonalize(torch.randn(2, 8, 8), torch.bfloat16)
    assert result.dtype == torch.bfloat16
    values = torch.linalg.svdvals(result.float())
    assert values.max() < 1.4


def test_another_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="float16"):
        orthogonalize(torch.zeros(1, 2, 2), torch.float16)
