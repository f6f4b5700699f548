"""Triton kernels for attention in passes without gradient, in bfloat16.

Normalised queries and keys bound the scores, mostly so tightly that softmax needs no maximum.
docs/performance.md compares them with cuDNN's. Importing this module needs Triton.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import has_static_value
from torch.library import triton_op, wrap_triton

from elf_lightning.network.kernels import (
    TOKENS,
    _norm_and_rotate,
    _normed_and_rotated,
    _pairs,
    is_measured,
)

QUERIES, KEYS, STAGES = 64, 64, 3  # queries of a program, keys at a time, stages of the pipeline
LARGE = 2**25  # scores from which kernels are used without compilation
BOUND = tl.constexpr(64.0)  # in float32, 2**-64 is above 0, and sums of 2**64 times values are finite
# Partial sums of a row, so that threads exchange theirs once, at the end.
LANES = tl.constexpr(8)


@triton.jit
def _add_keys(query, key, value, inside, top, total, mixed, BOUNDED: tl.constexpr):
    score = tl.where(inside, tl.dot(query, key.T), -float("inf"))
    if not BOUNDED:
        new_top = tl.maximum(top, tl.max(score, 1))
        kept = tl.exp2(top - new_top)[:, None]
        top, total, mixed = new_top, total * kept, mixed * kept
        score -= top[:, None]
    weight = tl.exp2(score)
    total += tl.sum(tl.reshape(weight, (weight.shape[0], weight.shape[1] // LANES, LANES)), 1)
    return top, total, tl.dot(weight.to(value.dtype), value, mixed)


@triton.jit
def _mix(
    query, k, v, LENGTH: tl.constexpr, BOUNDED: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr,
    QUERIES: tl.constexpr, KEYS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    top = tl.full((QUERIES,), -float("inf"), tl.float32)
    total = tl.zeros((QUERIES, LANES), tl.float32)
    mixed = tl.zeros((QUERIES, SIZE), tl.float32)
    row, column = tl.arange(0, KEYS)[:, None], tl.arange(0, SIZE)[None]
    key_at, value_at = k + row * WIDTH + column, v + row * (3 * WIDTH) + column
    for start in tl.range(0, LENGTH // KEYS * KEYS, KEYS, num_stages=STAGES):
        key, value = tl.load(key_at + start * WIDTH), tl.load(value_at + start * (3 * WIDTH))
        top, total, mixed = _add_keys(query, key, value, True, top, total, mixed, BOUNDED)
    if LENGTH % KEYS:
        # Whole tiles of text leave the prefix alone, which is short.
        place = LENGTH // KEYS * KEYS + tl.arange(0, 16 if LENGTH % KEYS <= 16 else KEYS)
        inside = place < LENGTH
        key = tl.load(k + place[:, None] * WIDTH + column, inside[:, None], 0.0)
        value = tl.load(v + place[:, None] * (3 * WIDTH) + column, inside[:, None], 0.0)
        top, total, mixed = _add_keys(query, key, value, inside[None], top, total, mixed, BOUNDED)
    return mixed / tl.sum(total, 1)[:, None]


@triton.jit
def _attention(
    qkv, k, mixed, q_scale, k_scale, rotary, LENGTH: tl.constexpr, SCALE: tl.constexpr, EPS: tl.constexpr,
    HEADS: tl.constexpr, SIZE: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    tiles: tl.constexpr = (LENGTH + QUERIES - 1) // QUERIES
    row = (tl.program_id(0) % tiles * QUERIES + tl.arange(0, QUERIES))[:, None]
    inside = row < LENGTH
    head = tl.program_id(0) // tiles
    first = (head // HEADS).to(tl.int64) * (LENGTH * HEADS * SIZE)
    column = tl.arange(0, SIZE)
    qkv += 3 * first + head % HEADS * SIZE
    first += head % HEADS * SIZE
    # Normalised here: that saves writing the queries, and the tensor cores take them from registers.
    query = tl.load(qkv + row * (3 * HEADS * SIZE) + column[None], inside, 0.0).to(tl.float32)
    cos, sin = _pairs(tl.load(rotary + row * SIZE + column[None], inside, 0.0))
    q_scale = SCALE * tl.load(q_scale + column).to(tl.float32)
    query = _normed_and_rotated(query, q_scale[None], cos, sin, EPS, SIZE).to(mixed.dtype.element_ty)
    largest_q = tl.max(tl.abs(q_scale), 0)
    largest_k = tl.max(tl.abs(tl.load(k_scale + column).to(tl.float32)), 0)
    k += first
    v = qkv + 2 * HEADS * SIZE
    if largest_q * largest_k * SIZE < BOUND:
        found = _mix(query, k, v, LENGTH, True, HEADS * SIZE, SIZE, QUERIES, KEYS, STAGES)
    else:
        found = _mix(query, k, v, LENGTH, False, HEADS * SIZE, SIZE, QUERIES, KEYS, STAGES)
    tl.store(mixed + first + row * (HEADS * SIZE) + column[None], found.to(mixed.dtype.element_ty), inside)


def pays_off(h: Tensor, heads: int) -> bool:
    """Whether kernels attend within hidden states (B, N, H): faster, as far as measured.

    With gradient, this holds within short sequences only (`short_attention_kernel`).
    """
    batch, length, size = h.shape
    if not is_measured(h) or size != heads * 64:
        return False
    if torch.compiler.is_compiling():
        # Each length needs a graph: once lengths vary, one graph with torch's attention serves all others.
        return has_static_value(length)
    return batch * heads * length**2 >= LARGE  # launching it takes longer than small attention


@triton_op("elf_lightning::attention", mutates_args={})
def attention(qkv: Tensor, q_scale: Tensor, k_scale: Tensor, rotary: Tensor, eps: float) -> Tensor:
    """Softmax attention of every position to every position, after norms and rotation; not differentiable.

    If the scales allow powers of two beyond `BOUND`, softmax subtracts the maximum as usual.

    Args:
        qkv: (B, N, 3, heads, head_size) queries, keys and values; `head_size` is a power of two, at least 16.
        q_scale: (head_size,) weight of the queries' norm.
        k_scale: the same of the keys.
        rotary: (N, 1, head_size / 2, 2) float32, a `rotary_table`.
        eps: added to the mean square.

    Returns:
        (B, N, heads, head_size), of the type of `qkv`.
    """
    batch, length, _, heads, size = qkv.shape
    qkv, rotary = qkv.contiguous(), rotary.contiguous()
    k, mixed = (qkv.new_empty(batch, length, heads, size) for _ in range(2))
    with torch.cuda.device_of(qkv):
        wrap_triton(_norm_and_rotate)[(triton.cdiv(batch * length, TOKENS),)](
            qkv, q_scale, k_scale, rotary, qkv, k, batch * length, length,
            PARTS=3, EPS=eps, HEADS=heads, SIZE=size, PADDED=size, TOKENS=TOKENS,
        )  # fmt: skip
        wrap_triton(_attention)[(triton.cdiv(length, QUERIES) * batch * heads,)](
            qkv, k, mixed, q_scale, k_scale, rotary,
            LENGTH=int(length), SCALE=size**-0.5 / math.log(2), EPS=eps, HEADS=heads, SIZE=size,
            QUERIES=QUERIES, KEYS=KEYS, STAGES=STAGES,
        )  # fmt: skip
    return mixed
