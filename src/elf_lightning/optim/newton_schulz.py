"""Orthogonalisation of matrices by Newton-Schulz iteration, all matrices of one shape at once."""

from __future__ import annotations

import torch
from muon import zeropower_via_newtonschulz5
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""The odd quintic `a x + b x^3 + c x^5` applied to the singular values (Jordan et al. 2024, Muon)."""
ITERATIONS = 5
EPS = 1e-8
PRECISIONS = (torch.float32, torch.bfloat16)


def orthogonalize(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Moves every singular value of every matrix near 1, keeping the singular vectors.

    Args:
        matrices: (N, rows, columns), any real dtype.
        dtype: the precision of the iteration. float32 is `optax.contrib.muon`; bfloat16 is the function
            of the `muon-optimizer` package, faster on a GPU and right to about two digits.

    Returns:
        (N, rows, columns) in `dtype`. A matrix of zeros stays one.

    Raises:
        ValueError: `dtype` is not one of `PRECISIONS`.
    """
    if dtype == torch.bfloat16:
        result: Tensor = zeropower_via_newtonschulz5(matrices, steps=ITERATIONS)
        return result
    if dtype != torch.float32:
        raise ValueError(f"Newton-Schulz runs in one of {PRECISIONS}, not in {dtype}")
    rows, columns = matrices.shape[-2:]
    wide = (matrices.mT if rows > columns else matrices).float()
    wide = wide / (torch.linalg.matrix_norm(wide, keepdim=True) + EPS)
    result = iterate_on_gram(wide) if gram_is_cheaper(rows, columns) else iterate_directly(wide)
    return result.mT if rows > columns else result


def gram_is_cheaper(rows: int, columns: int) -> bool:
    """Whether `iterate_on_gram` takes fewer operations than `iterate_directly` at this shape.

    With m the short and n the long side, and 2 operations a multiply-add: directly `5 (4 m^2 n + 2 m^3)`,
    on the Gram matrix `4 m^2 n + 34 m^3`. They meet at n = 1.5 m.
    """
    short, long = sorted((rows, columns))
    return 2 * long > 3 * short


def flops(rows: int, columns: int) -> int:
    """Operations `orthogonalize` spends on one matrix, the cheaper of the two ways."""
    short, long = sorted((rows, columns))
    if gram_is_cheaper(rows, columns):
        return 4 * short**2 * long + 34 * short**3
    return 20 * short**2 * long + 10 * short**3


def iterate_directly(x: Tensor) -> Tensor:
    """`X <- a X + (b A + c A^2) X` with `A = X X^T`; x is (N, m, n), m <= n, of norm at most 1."""
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x


def iterate_on_gram(x: Tensor) -> Tensor:
    """The same on small (m, m) matrices: `P = a I + b A + c A^2`, `Q <- P Q`, `A <- P A P`; at the end `Q X`.

    Equal to `iterate_directly` up to rounding: to 1e-4, where singular values span many decades.
    """
    a, b, c = COEFFICIENTS
    gram = x @ x.mT
    product: Tensor | None = None
    for remaining in reversed(range(ITERATIONS)):
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=-2, dim2=-1).add_(a)
        product = polynomial if product is None else polynomial @ product
        if remaining:
            gram = polynomial @ gram @ polynomial
    assert product is not None
    return product @ x
