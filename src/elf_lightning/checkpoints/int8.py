"""Matrices as 8-bit integers with one scale per output channel."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from elf_lightning.errors import UserError

LEVELS = 127
"""Largest magnitude; -128 is unused, so that zero is in the middle."""
_SCALE = ".scale"


def quantize(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each matrix (out, in) as int8, rounded to nearest, with a float32 `NAME.scale` (out).

    A row's scale is its largest magnitude / 127, so no value changes by more than half the scale. Vectors and
    learned tokens stay as they are.

    Raises:
        UserError: if a matrix has a value that is not finite.
    """
    stored = dict(weights)
    for name, matrix in ((name, value.float()) for name, value in weights.items() if value.dim() == 2):
        scale = matrix.abs().amax(1) / LEVELS
        if not scale.isfinite().all():
            raise UserError(f"weights '{name}' are not finite; convert another checkpoint")
        stored[name] = (matrix / torch.where(scale > 0, scale, 1.0)[:, None]).round().to(torch.int8)
        stored[name + _SCALE] = scale
    return stored


def dequantize(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights with float32 matrices: each int8 value times the scale of its row.

    Raises:
        UserError: if the scales of a matrix are missing or damaged.
    """
    weights = dict(stored)
    for name in (name for name, value in stored.items() if value.dtype == torch.int8):
        scale = weights.pop(name + _SCALE, None)
        if scale is None or scale.shape != stored[name].shape[:1]:
            raise UserError(
                f"the scales of '{name}' are missing or do not fit it; copy model.safetensors again"
            )
        if not (scale.isfinite() & (scale >= 0)).all():
            raise UserError(
                f"the scales of '{name}' are not all finite and positive; copy model.safetensors again"
            )
        weights[name] = stored[name].float() * scale.float()[:, None]
    return weights
