"""Cross-entropy of the token head and its correct predictions, without all logits at once."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from elf_lightning.network import ELFNetwork, full_precision
from elf_lightning.network.blocks import HAS_KERNELS, by_kernel
from elf_lightning.network.projections import rows_at_once

if HAS_KERNELS:
    from elf_lightning.objectives import token_loss_kernel


def token_cross_entropy(
    network: ELFNetwork, hidden: Tensor, ids: Tensor, loss_mask: Tensor, unknown_id: int | None = None
) -> tuple[Tensor, Tensor]:
    """Sum of the token head's cross-entropies in nats, and its correct predictions, both () float32.

    Of hidden states (B, S, H), target tokens `ids` (B, S) and a float `loss_mask` (B, S), 1 at tokens that
    count. A prediction of `unknown_id`, which stands for other tokens, is never correct.
    """
    features = network.token_head.features(hidden).flatten(0, 1)
    unembed = network.token_head.unembed
    ids, loss_mask = ids.flatten(), loss_mask.flatten()
    with full_precision(hidden):
        loss, correct = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
            features, unembed.weight, unembed.bias, ids, loss_mask, torch.is_grad_enabled()
        )
    if unknown_id is not None:
        correct = correct & (ids != unknown_id)
    return loss, (correct * loss_mask).sum()


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Masked sum of the cross-entropies of `features @ weight.T + bias`, and the correct predictions."""

    # The gradients are computed along with each chunk's logits, so that nothing of size (N, V) is kept and
    # nothing is computed twice. `F.linear_cross_entropy` works the same way, but does not return predictions.

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, ids: Tensor, mask: Tensor, train: bool
    ) -> tuple[Tensor, Tensor]:
        """Features (N, C), weight (V, C), bias (V,), ids and mask (N,) -> sum () and correct (N,)."""
        losses = torch.empty_like(mask)
        correct = torch.empty_like(ids, dtype=torch.bool)
        gradients = [torch.zeros_like(tensor) for tensor in (features, weight, bias)] if train else []
        fused = train and by_kernel(features)
        of_logits = token_loss_kernel.losses_and_gradient if fused else losses_and_gradient
        # The kernel needs no second buffer for the gradient.
        size = rows_at_once(features.device, len(bias)) * (2 if fused else 1)
        # TF32 is fastest where both operands have the axis that is summed over innermost.
        by_columns = weight.T.contiguous().T if fused and len(ids) else weight
        for start in range(0, len(ids), size):
            chunk = slice(start, start + size)
            logits = torch.addmm(bias, features[chunk], weight.T)
            gradient = of_logits(logits, ids[chunk], losses[chunk], correct[chunk])
            if train:
                of_features, of_weight, of_bias = gradients
                counts = mask[chunk, None]  # applied to tensors smaller than (N, V)
                of_features[chunk] = (gradient @ by_columns) * counts
                torch.addmm(of_weight, gradient.T, features[chunk] * counts, out=of_weight)
                of_bias.addmv_(gradient.T, mask[chunk])
            del logits, gradient  # before the next chunk's are computed
        ctx.gradients = gradients
        ctx.mark_non_differentiable(correct)
        return (losses * mask).sum(), correct

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """The stored gradients, once."""
        features, weight, bias = (stored.mul_(gradient) for stored in ctx.gradients)
        del ctx.gradients
        return features, weight, bias, None, None, None


def losses_and_gradient(logits: Tensor, ids: Tensor, losses: Tensor, correct: Tensor) -> Tensor:
    """Cross-entropies of logits (n, V) for target tokens `ids` (n,), and their gradient, (n, V).

    Written to `losses` (n,), and to `correct` (n,) whether a target is the first of the largest logits.
    """
    target = ids[:, None]
    best, prediction = logits.max(1, keepdim=True)
    correct.copy_((prediction == target).squeeze(1))
    probabilities = logits.softmax(1)
    # The largest probability is never too small for a logarithm. The logits are subtracted first, so that
    # they cancel exactly where the prediction is correct.
    gap = best - logits.gather(1, target)
    losses.copy_((gap - probabilities.gather(1, prediction).log()).squeeze(1))
    return probabilities.scatter_add_(1, target, torch.full_like(best, -1))
