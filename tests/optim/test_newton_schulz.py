"""The iteration against its definition, in double precision, and its two forms against each other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from elf_lightning.optim import newton_schulz
from elf_lightning.optim.newton_schulz import COEFFICIENTS, ITERATIONS, gram_is_cheaper, orthogonalize

SHAPES = [(1, 1), (1, 7), (7, 1), (16, 16), (16, 24), (25, 16), (16, 96), (130, 16)]


def by_singular_values(matrix: Tensor) -> Tensor:
    """The quintic applied to the singular values themselves."""
    a, b, c = COEFFICIENTS
    left, values, right = torch.linalg.svd(matrix.double() / matrix.double().norm(), full_matrices=False)
    for _ in range(ITERATIONS):
        values = a * values + b * values**3 + c * values**5
    return (left * values) @ right


@pytest.mark.parametrize("form", ["chosen", "direct", "gram"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_matrix_of_a_batch_is_orthogonalised(
    shape: tuple[int, int], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form != "chosen":
        monkeypatch.setattr(newton_schulz, "gram_is_cheaper", lambda rows, columns: form == "gram")
    matrices = torch.randn(3, *shape) * torch.tensor([1e-4, 1.0, 1e3])[:, None, None]
    (result,) = orthogonalize([matrices])
    assert result.shape == matrices.shape
    for one, expected in zip(result, matrices, strict=True):
        torch.testing.assert_close(one.double(), by_singular_values(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(192, 600), (600, 192)])
@pytest.mark.parametrize("decades", [1, 3, 6])
def test_the_gram_form_is_equal_for_nearly_singular_matrices(shape: tuple[int, int], decades: int) -> None:
    short = min(shape)
    left, right = (torch.linalg.qr(torch.randn(side, short))[0] for side in shape)
    matrix = (left * torch.logspace(0, -decades, short)) @ right.T
    result = newton_schulz.iterate_on_gram(newton_schulz.gram_matrices(matrix[None]))[0]
    result = matrix @ result if shape[0] > shape[1] else result @ matrix
    torch.testing.assert_close(result.double(), by_singular_values(matrix), rtol=0, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e8])
@pytest.mark.parametrize("shape", [(8, 10), (8, 40)])
def test_both_forms_agree_at_every_scale(shape: tuple[int, int], scale: float) -> None:
    matrices = scale * torch.randn(2, *shape)
    torch.testing.assert_close(
        newton_schulz.iterate_on_gram(newton_schulz.gram_matrices(matrices)) @ matrices,
        newton_schulz.iterate_directly(matrices),
        rtol=1e-4,
        atol=1e-4,
    )


def test_zeros_stay_zeros() -> None:
    (result,) = orthogonalize([torch.zeros(2, 4, 12)])
    assert not result.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batches_of_all_shapes_are_as_each_alone(dtype: torch.dtype) -> None:
    batches = [
        torch.randn(count, *shape) for count, shape in zip([2, 1, 3, 0, 1, 2, 1, 0], SHAPES, strict=True)
    ]
    found = orthogonalize(batches, dtype)
    assert [(one.shape, one.dtype) for one in found] == [(one.shape, dtype) for one in batches]
    for one, batch in zip(found, batches, strict=True):
        torch.testing.assert_close(one, orthogonalize([batch], dtype)[0], rtol=0, atol=1e-5)


def test_shapes_with_one_short_side_share_an_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[torch.Size] = []

    def product(*matrices: Tensor, **factors: float) -> Tensor:
        sizes.append(matrices[0].shape)
        return baddbmm(*matrices, **factors)

    baddbmm = torch.baddbmm
    monkeypatch.setattr(torch, "baddbmm", product)
    orthogonalize([torch.randn(2, 8, 30), torch.randn(3, 20, 8), torch.randn(1, 9, 30)])
    assert sizes == [(5, 8, 8)] * ITERATIONS + [(1, 9, 9)] * ITERATIONS


def test_the_gram_form_is_used_wherever_it_is_cheaper() -> None:
    assert [gram_is_cheaper(10, long) for long in (10, 15, 16, 30, 300)] == [False, False, True, True, True]
    assert gram_is_cheaper(300, 10)


def test_bfloat16_is_the_function_of_the_package() -> None:
    (result,) = orthogonalize([torch.randn(2, 8, 8)], torch.bfloat16)
    assert result.dtype == torch.bfloat16
    values = torch.linalg.svdvals(result.float())
    assert values.max() < 1.4


def test_another_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="float16"):
        orthogonalize([torch.zeros(1, 2, 2)], torch.float16)
