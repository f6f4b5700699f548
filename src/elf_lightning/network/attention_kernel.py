"""A Triton kernel for attention in passes without gradient, in bfloat16.

Normalised queries and keys bound the scores, mostly so tightly that softmax needs no maximum.
docs/performance.md compares it with cuDNN's. Importing this module needs Triton.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import has_static_value
from torch.library import triton_op, wrap_triton

QUERIES, KEYS, STAGES = 64, 64, 3  # queries of a program, keys at a time, stages of the pipeline
LARGE = 2**25  # scores from which it is used without compilation
BOUND = tl.constexpr(64.0)  # in float32, 2**-64 is above 0, and sums of 2**64 times values are finite


@triton.jit
def _add_keys(query, key, value, inside, top, total, mixed, SCALE: tl.constexpr, BOUNDED: tl.constexpr):
    score = tl.where(inside, tl.dot(query, key.T) * SCALE, -float("inf"))
    if not BOUNDED:
        new_top = tl.maximum(top, tl.max(score, 1))
        kept = tl.exp2(top - new_top)
        top, total, mixed = new_top, total * kept, mixed * kept[:, None]
        score -= top[:, None]
    weight = tl.exp2(score)
    return top, total + tl.sum(weight, 1), tl.dot(weight.to(value.dtype), value, mixed)


@triton.jit
def _mix(
    query, k, v, LENGTH: tl.constexpr, SCALE: tl.constexpr, BOUNDED: tl.constexpr, WIDTH: tl.constexpr,
    SIZE: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    top = tl.full((QUERIES,), -float("inf"), tl.float32)
    total = tl.zeros((QUERIES,), tl.float32)
    mixed = tl.zeros((QUERIES, SIZE), tl.float32)
    place = tl.arange(0, KEYS)[:, None] * WIDTH + tl.arange(0, SIZE)[None]
    for start in tl.range(0, LENGTH // KEYS * KEYS, KEYS, num_stages=STAGES):
        key, value = tl.load(k + place + start * WIDTH), tl.load(v + place + start * WIDTH)
        top, total, mixed = _add_keys(query, key, value, True, top, total, mixed, SCALE, BOUNDED)
    if LENGTH % KEYS:
        place += LENGTH // KEYS * KEYS * WIDTH
        inside = tl.arange(0, KEYS) < LENGTH % KEYS
        key, value = tl.load(k + place, inside[:, None], 0.0), tl.load(v + place, inside[:, None], 0.0)
        top, total, mixed = _add_keys(query, key, value, inside[None], top, total, mixed, SCALE, BOUNDED)
    return mixed / total[:, None]


@triton.jit
def _attention(
    q, k, v, mixed, q_scale, k_scale, LENGTH: tl.constexpr, SCALE: tl.constexpr, HEADS: tl.constexpr,
    SIZE: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    tiles: tl.constexpr = (LENGTH + QUERIES - 1) // QUERIES
    row = tl.program_id(0) % tiles * QUERIES + tl.arange(0, QUERIES)
    head = tl.program_id(0) // tiles
    first = (head // HEADS).to(tl.int64) * (LENGTH * HEADS * SIZE) + head % HEADS * SIZE
    column = tl.arange(0, SIZE)
    place = first + row[:, None] * (HEADS * SIZE) + column[None]
    inside = (row < LENGTH)[:, None]
    query = tl.load(q + place, inside, 0.0)
    k += first
    v += first
    largest_q = tl.max(tl.abs(tl.load(q_scale + column).to(tl.float32)), 0)
    largest_k = tl.max(tl.abs(tl.load(k_scale + column).to(tl.float32)), 0)
    if largest_q * largest_k * SIZE * SCALE < BOUND:
        found = _mix(query, k, v, LENGTH, SCALE, True, HEADS * SIZE, SIZE, QUERIES, KEYS, STAGES)
    else:
        found = _mix(query, k, v, LENGTH, SCALE, False, HEADS * SIZE, SIZE, QUERIES, KEYS, STAGES)
    tl.store(mixed + place, found.to(mixed.dtype.element_ty), inside)


def pays_off(q: Tensor) -> bool:
    """Whether `attention` is used for such queries (B, N, heads, head_size): faster, as far as measured."""
    batch, length, heads, size = q.shape
    if torch.cuda.get_device_properties(q.device).major != 9 or q.dtype != torch.bfloat16 or size != 64:
        return False
    if torch.compiler.is_compiling():
        # Each length needs a graph: once lengths vary, one graph with torch's attention serves all others.
        return has_static_value(length)
    return batch * heads * length**2 >= LARGE  # launching it takes longer than small attention


@triton_op("elf_lightning::attention", mutates_args={})
def attention(q: Tensor, k: Tensor, v: Tensor, q_scale: Tensor, k_scale: Tensor) -> Tensor:
    """Softmax attention of every position to every position; not differentiable.

    If the scales allow powers of two beyond `BOUND`, softmax subtracts the maximum as usual.

    Args:
        q: (B, N, heads, head_size) queries of `kernels.norm_and_rotate`; `head_size` is a power of two.
        k: the same of the keys.
        v: the same of the values.
        q_scale: (head_size,) weight of the queries' norm.
        k_scale: the same of the keys.

    Returns:
        (B, N, heads, head_size), of the type of `q`.
    """
    batch, length, heads, size = q.shape
    mixed = torch.empty_like(q, memory_format=torch.contiguous_format)
    with torch.cuda.device_of(q):
        wrap_triton(_attention)[(triton.cdiv(length, QUERIES) * batch * heads,)](
            q.contiguous(), k.contiguous(), v.contiguous(), mixed, q_scale, k_scale,
            LENGTH=int(length), SCALE=size**-0.5 / math.log(2), HEADS=heads, SIZE=size,
            QUERIES=QUERIES, KEYS=KEYS, STAGES=STAGES,
        )  # fmt: skip
    return mixed
