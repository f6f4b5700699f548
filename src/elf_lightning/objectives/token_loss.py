"""Cross-entropy of the token head, and its hits, without ever holding all logits."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from elf_lightning.network import ELFNetwork, full_precision
from elf_lightning.network.heads import CHUNK_LOGITS

SMALLEST_NORMAL = torch.finfo(torch.float32).smallest_normal


def token_cross_entropy(
    network: ELFNetwork, hidden: Tensor, ids: Tensor, counting: Tensor, unknown_id: int | None = None
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the token head, and its hits.

    Args:
        network: supplies the token head.
        hidden: (B, S, H) hidden states.
        ids: (B, S) int64, the right tokens.
        counting: (B, S) 1 at positions that count, else 0.
        unknown_id: a token that stands for others, which is never recovered.

    Returns:
        The sum of the counting positions' cross-entropies in nats, and the number of counting positions
        whose largest logit is the right one, both () float32.
    """
    features = network.token_head.features(hidden).flatten(0, 1)
    unembed = network.token_head.unembed
    ids, counting = ids.flatten(), counting.flatten()
    with full_precision(hidden):
        error, hits = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
            features, unembed.weight, unembed.bias, ids, counting, torch.is_grad_enabled()
        )
    if unknown_id is not None:
        hits = hits & (ids != unknown_id)
    return error, (hits * counting).sum()


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Weighted sum of the cross-entropies of `features @ weight.T + bias`, and where the best logit is right.

    A chunk's logits are used up at once, for the gradients too: with them nothing of size (N, V) is kept,
    and nothing is computed twice. `F.linear_cross_entropy` does the same, but tells no hits.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, ids: Tensor, counting: Tensor, train: bool
    ) -> tuple[Tensor, Tensor]:
        """Features (N, C), weight (V, C), bias (V,), ids and counting (N,) -> sum () and hits (N,)."""
        errors = torch.empty_like(counting)
        hits = torch.empty_like(ids, dtype=torch.bool)
        gradients = [torch.zeros_like(tensor) for tensor in (features, weight, bias)] if train else []
        size = max(1, CHUNK_LOGITS // len(bias))
        for start in range(0, len(ids), size):
            rows = slice(start, start + size)
            x, right, weights = features[rows], ids[rows, None], counting[rows]
            logits = torch.addmm(bias, x, weight.T)
            best, guess = logits.max(1, keepdim=True)
            hits[rows] = (guess == right).squeeze(1)
            shares = without_denormals(logits.softmax(1))
            # The best token's share is never too small for a logarithm.
            # Logits first: where the guess is right they cancel exactly.
            behind = best - logits.gather(1, right)
            errors[rows] = (behind - shares.gather(1, guess).log()).squeeze(1)
            if train:
                shares.scatter_add_(1, right, torch.full_like(best, -1))
                _accumulate(gradients, rows, shares, x, weight, weights)
            del logits, shares  # before the next chunk's are made
        ctx.gradients = gradients
        ctx.mark_non_differentiable(hits)
        return (errors * counting).sum(), hits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients are there already; they can be had once."""
        features, weight, bias = (gradient.mul_(error) for gradient in ctx.gradients)
        del ctx.gradients
        return features, weight, bias, None, None, None


def without_denormals(shares: Tensor) -> Tensor:
    """`shares` (N, V) with zero in place of denormal numbers, on a CPU, which multiplies those very slowly.

    A confident decoder has many: products with them take several times as long.
    """
    return F.threshold(shares, SMALLEST_NORMAL, 0.0, inplace=True) if shares.device.type == "cpu" else shares


def _accumulate(
    gradients: list[Tensor], rows: slice, shares: Tensor, x: Tensor, weight: Tensor, weights: Tensor
) -> None:
    """Adds a chunk's gradients; weighing the positions is cheaper on x than on the shares."""
    features, unembed, bias = gradients
    features[rows] = (shares @ weight) * weights[:, None]
    torch.addmm(unembed, shares.T, x * weights[:, None], out=unembed)
    bias.addmv_(shares.T, weights)
