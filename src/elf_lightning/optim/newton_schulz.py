"""Orthogonalisation of matrices by Newton-Schulz iteration, in batches.

Products are `torch.bmm`, which `@` reaches after four more operations: the host bounds small models on a GPU.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from muon import zeropower_via_newtonschulz5
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""The odd quintic `a x + b x^3 + c x^5` applied to the singular values (Jordan et al. 2024, Muon)."""
ITERATIONS = 5
EPS = 1e-8
NEWTON_SCHULZ_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def orthogonalize(batches: Iterable[Tensor], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Every matrix with its singular values moved close to 1 and its singular vectors unchanged.

    Args:
        batches: matrices of one shape each, (N, rows, columns), any real dtype; N may be 0.
        dtype: precision of the iteration. float32 is `optax.contrib.muon`; bfloat16 is the function of the
            `muon-optimizer` package, accurate to about two digits.

    Returns:
        Batches of the same shapes in `dtype`. A matrix of zeros stays zero.
    """
    if dtype == torch.bfloat16:
        return [zeropower_via_newtonschulz5(x, steps=ITERATIONS) if len(x) else x.to(dtype) for x in batches]
    if dtype != torch.float32:
        raise ValueError(f"Newton-Schulz runs in {' or '.join(NEWTON_SCHULZ_DTYPES)}, not in {dtype}")
    results: list[Tensor] = []
    by_gram: dict[Any, list[int]] = defaultdict(list)  # places of those with Gram matrices of one size
    for place, x in enumerate(map(Tensor.float, batches)):
        if len(x) and gram_is_cheaper(*x.shape[-2:]):
            by_gram[min(x.shape[-2:]), x.device].append(place)
        elif len(x):
            x = iterate_directly(x)
        results.append(x)
    for places in by_gram.values():
        factors = iterate_on_gram(torch.cat([gram_matrices(results[place]) for place in places]))
        shares = torch.split(factors, [len(results[place]) for place in places])
        for place, share in zip(places, shares, strict=True):
            x = results[place]
            results[place] = torch.bmm(x, share) if _is_tall(x) else torch.bmm(share, x)
    return results


def gram_is_cheaper(rows: int, columns: int) -> bool:
    """Whether `iterate_on_gram` takes fewer operations than `iterate_directly`, as `flops` counts them."""
    short, long = sorted((rows, columns))
    return 2 * long > 3 * short


def flops(rows: int, columns: int) -> int:
    """FLOPs of `orthogonalize` for one matrix, directly or on its Gram matrix; equal at sides of 1 to 1.5."""
    short, long = sorted((rows, columns))
    return min(20 * short**2 * long + 10 * short**3, 4 * short**2 * long + 34 * short**3)


def iterate_directly(matrices: Tensor) -> Tensor:
    """`X <- a X + (b A + c A^2) X` with `A = X X^T`, from `X / (|X| + EPS)`; (N, rows, columns) both."""
    a, b, c = COEFFICIENTS
    tall = _is_tall(matrices)
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + EPS)
    for _ in range(ITERATIONS):
        gram = torch.bmm(x, x.mT)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if tall else x


def gram_matrices(matrices: Tensor) -> Tensor:
    """Gram matrices (N, m, m) of (N, rows, columns), of which m is the shorter side."""
    return torch.bmm(matrices.mT, matrices) if _is_tall(matrices) else torch.bmm(matrices, matrices.mT)


def iterate_on_gram(gram: Tensor) -> Tensor:
    """The same on Gram matrices: `P = a I + b A + c A^2`, `Q <- P Q`, `A <- P A P`; at the end `Q X`.

    Equal to `iterate_directly` to 1e-4, also where singular values span many decades. Saves 40% of a
    quickstart training step on a CPU.

    Args:
        gram: (N, m, m), of matrices of any shapes.

    Returns:
        The factors Q, (N, m, m), which belong on the shorter side of the matrices.
    """
    a, b, c = COEFFICIENTS
    norm = gram.diagonal(dim1=-2, dim2=-1).sum(-1).sqrt()[:, None, None] + EPS
    gram = gram / norm**2
    product: Tensor | None = None
    for remaining in reversed(range(ITERATIONS)):
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=-2, dim2=-1).add_(a)
        product = polynomial if product is None else torch.bmm(polynomial, product)
        if remaining:
            gram = torch.bmm(torch.bmm(polynomial, gram), polynomial)
    assert product is not None
    return product / norm


def _is_tall(matrices: Tensor) -> bool:
    return matrices.shape[-2] > matrices.shape[-1]
