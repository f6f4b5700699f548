"""A Triton kernel for the token loss with gradient: from logits to their gradient, in place.

It computes the formulas of `token_loss`, in float32. Importing this module needs Triton.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

# Columns at a time: 16 bytes for each thread. A program reads its row twice, the second time from the cache,
# which holds the rows of all running programs if these are few and have many threads: two for each
# multiprocessor of an H200, with up to 32 registers.
COLUMNS, WARPS = 4096, 32
LOWEST = tl.constexpr(torch.finfo(torch.float32).min)


# Chunks of these start anywhere: without this, each alignment would be compiled.
@triton.jit(do_not_specialize_on_alignment=["ids", "losses", "correct"])
def _losses_and_gradient(logits, ids, losses, correct, VOCABULARY: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    logits += row * VOCABULARY
    target = tl.load(ids + row).to(tl.int32)
    of_target = tl.load(logits + target, (target >= 0) & (target < VOCABULARY), float("nan"))
    # Each lane has a maximum so far, and a sum of exponentials relative to it. The first maximum is finite,
    # since infinities have no difference.
    top = tl.full((COLUMNS,), LOWEST, tl.float32)
    total = tl.zeros((COLUMNS,), tl.float32)
    for first in range(0, VOCABULARY, COLUMNS):
        column = first + tl.arange(0, COLUMNS)
        logit = tl.load(logits + column, column < VOCABULARY, float("-inf"))
        ratio = tl.exp(-tl.abs(logit - top))
        higher = logit > top
        total = tl.where(higher, total * ratio + 1, total + ratio)  # stays NaN after a logit that is
        top = tl.where(higher, logit, top)
    best = tl.max(top, 0)
    total = tl.sum(total * tl.exp(top - best), 0)
    tl.store(losses + row, best - of_target + tl.log(total))
    inverse = 1 / total
    earlier = tl.zeros((COLUMNS,), tl.int32)
    for back in range(0, VOCABULARY, COLUMNS):  # from the end, which was read last
        column = (VOCABULARY - 1) // COLUMNS * COLUMNS - back + tl.arange(0, COLUMNS)
        logit = tl.load(logits + column, column < VOCABULARY, float("-inf"))
        earlier |= ((logit == best) & (column < target)).to(tl.int32)
        gradient = tl.exp(logit - best) * inverse
        gradient = tl.where(column == target, gradient - 1, gradient)
        tl.store(logits + column, gradient, column < VOCABULARY)
    tl.store(correct + row, (of_target == best) & (tl.max(earlier, 0) == 0))


def losses_and_gradient(logits: Tensor, ids: Tensor, losses: Tensor, correct: Tensor) -> Tensor:
    """As the function of `token_loss`, but the gradient (n, V) is in the place of the logits.

    An id outside the vocabulary has a loss of NaN.
    """
    rows, vocabulary = logits.shape
    with torch.cuda.device_of(logits):  # Triton launches on the current GPU, wherever the tensors are
        _losses_and_gradient[(rows,)](
            logits, ids.contiguous(), losses, correct,
            VOCABULARY=vocabulary, COLUMNS=COLUMNS, num_warps=WARPS,
        )  # fmt: skip
    return logits
