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
    x = matrices.float()
    return iterate_on_gram(x) if gram_is_cheaper(*x.shape[-2:]) else iterate_directly(x)


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


def iterate_directly(matrices: Tensor) -> Tensor:
    """`X <- a X + (b A + c A^2) X` with `A = X X^T`, from `X / (|X| + EPS)`; (N, rows, columns) each way."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + EPS)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if tall else x


def iterate_on_gram(matrices: Tensor) -> Tensor:
    """The same on small (m, m) matrices: `P = a I + b A + c A^2`, `Q <- P Q`, `A <- P A P`; at the end `Q X`.

    The long matrices are read twice, and written once. Equal to `iterate_directly` up to rounding: to 1e-4,
    where singular values span many decades.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    gram = matrices.mT @ matrices if tall else matrices @ matrices.mT
    norm = gram.diagonal(dim1=-2, dim2=-1).sum(-1).sqrt()[:, None, None] + EPS
    gram = gram / norm**2
    product: Tensor | None = None
    for remaining in reversed(range(ITERATIONS)):
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=-2, dim2=-1).add_(a)
        product = polynomial if product is None else polynomial @ product
        if remaining:
            gram = polynomial @ gram @ polynomial
    assert product is not None
    product = product / norm
    return matrices @ product if tall else product @ matrices
