"""Who sees whom inside the frozen encoder."""

from __future__ import annotations

import torch
from torch import Tensor


def encoder_mask(attention_mask: Tensor, condition_mask: Tensor, label_drop: Tensor | None = None) -> Tensor:
    """Boolean mask (B, S, S), True where the row's position sees the column's (arXiv 2605.10938).

    Condition positions see condition positions; all others see every valid position, except in
    label-dropped rows, where they do not see the condition.

    Args:
        attention_mask: (B, S) boolean, True at real tokens.
        condition_mask: (B, S) boolean, True at condition positions.
        label_drop: (B,) boolean; None drops no row.
    """
    is_condition = condition_mask[:, :, None]
    sees_condition = condition_mask & attention_mask
    sees_all = (
        attention_mask if label_drop is None else attention_mask & ~(condition_mask & label_drop[:, None])
    )
    return torch.where(is_condition, sees_condition[:, None, :], sees_all[:, None, :])


def additive_mask(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """The mask as numbers to add to attention scores: 0 where allowed, `finfo(dtype).min` elsewhere.

    This is the one form that T5 and BERT read alike in transformers 5, eager and sdpa; the lowest finite
    number rather than -inf keeps a row that sees nothing free of NaN.
    """
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(
        ~mask, torch.finfo(dtype).min
    )
