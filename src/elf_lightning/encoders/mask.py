"""Attention masks of the frozen encoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def encoder_mask(attention_mask: Tensor, condition_mask: Tensor, label_drop: Tensor | None = None) -> Tensor:
    """Boolean mask (B, S, S), True where query position (row) attends to key (column) (arXiv 2605.10938).

    Condition positions attend to condition positions; all others attend to every valid position, except
    that they ignore the condition in label-dropped sequences.

    Args:
        attention_mask: (B, S) boolean, True at real tokens.
        condition_mask: (B, S) boolean, True at condition positions.
        label_drop: (B,) boolean, True for label-dropped sequences; None for none.
    """
    is_condition = condition_mask[:, :, None]
    sees_condition = condition_mask & attention_mask
    sees_all = (
        attention_mask if label_drop is None else attention_mask & ~(condition_mask & label_drop[:, None])
    )
    return torch.where(is_condition, sees_condition[:, None, :], sees_all[:, None, :])


def causal_mask(mask: Tensor) -> Tensor:
    """The mask (..., S, S) without what lies after each position: causal and allowed."""
    return mask.tril()


def behind_start(mask: Tensor) -> Tensor:
    """The mask (..., S, S) with a position before the first, (..., 1+S, 1+S): all see it, it sees itself."""
    whole = F.pad(mask, (1, 0, 1, 0), value=False)
    whole[..., 0] = True
    return whole


def additive_mask(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """The mask as an addend to attention scores: 0 where allowed, `finfo(dtype).min` elsewhere.

    In transformers 5, only this form works for both T5 and BERT, with eager and sdpa attention. The lowest
    finite number instead of -inf avoids NaN where a position attends to nothing.
    """
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(
        ~mask, torch.finfo(dtype).min
    )
