"""Triton kernels for attention within short sequences, with gradient, in bfloat16.

They take queries, keys and values as the layer projects them, normalise and rotate them, and return their
gradients. docs/performance.md compares them with cuDNN's. Importing this module needs Triton.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton

from elf_lightning.network.kernels import _grads_before, _normed_and_rotated, _pairs

# Positions: the tensor cores take 16 keys or more, and `_attend` divides them in two; more than 192 would
# need too many registers.
SHORTEST, LONGEST = 17, 192
# Queries of a program at a time, and stages of its pipeline.
FORWARD = {"QUERIES": 64, "STAGES": 1}
# Positions of which a program has the gradients, others at a time, and stages.
BACKWARD = {"TILE": 64, "OTHERS": 32, "STAGES": 2}
LN2 = tl.constexpr(math.log(2))


@triton.jit
def _attend(
    qkv, mixed, log_sums, queries, keys, q_scale, k_scale, rotary,
    LENGTH: tl.constexpr, SCALE: tl.constexpr, EPS: tl.constexpr, HEADS: tl.constexpr, SIZE: tl.constexpr,
    QUERIES: tl.constexpr, FIRST: tl.constexpr, REST: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, SIZE)
    before = program // HEADS * (LENGTH * HEADS * SIZE)
    qkv += 3 * before + program % HEADS * SIZE
    before += program % HEADS * SIZE
    log_sums += program * LENGTH
    q_scale = SCALE * tl.load(q_scale + column).to(tl.float32)[None]
    k_scale = tl.load(k_scale + column).to(tl.float32)[None]
    # Keys and values: a power of two, and those that are left.
    row, rest = tl.arange(0, FIRST)[:, None], FIRST + tl.arange(0, REST)[:, None]
    there = rest < LENGTH
    k_at, v_at = qkv + HEADS * SIZE + column[None], qkv + 2 * HEADS * SIZE + column[None]
    k = tl.load(k_at + row * (3 * HEADS * SIZE))
    k_rest = tl.load(k_at + rest * (3 * HEADS * SIZE), there, 0.0)
    v = tl.load(v_at + row * (3 * HEADS * SIZE))
    v_rest = tl.load(v_at + rest * (3 * HEADS * SIZE), there, 0.0)
    cos, sin = _pairs(tl.load(rotary + row * SIZE + column[None]))
    k = _normed_and_rotated(k.to(tl.float32), k_scale, cos, sin, EPS, SIZE).to(v.dtype)
    cos, sin = _pairs(tl.load(rotary + rest * SIZE + column[None], there, 0.0))
    k_rest = _normed_and_rotated(k_rest.to(tl.float32), k_scale, cos, sin, EPS, SIZE).to(v.dtype)
    tl.store(keys + before + row * (HEADS * SIZE) + column[None], k)
    tl.store(keys + before + rest * (HEADS * SIZE) + column[None], k_rest, there)
    is_key = (FIRST + tl.arange(0, REST) < LENGTH)[None]
    for start in tl.range(0, LENGTH, QUERIES, num_stages=STAGES):
        place = start + tl.arange(0, QUERIES)
        query, inside = place[:, None], (place < LENGTH)[:, None]
        q = tl.load(qkv + query * (3 * HEADS * SIZE) + column[None], inside, 0.0).to(tl.float32)
        q_cos, q_sin = _pairs(tl.load(rotary + query * SIZE + column[None], inside, 0.0))
        q = _normed_and_rotated(q, q_scale, q_cos, q_sin, EPS, SIZE).to(v.dtype)
        score, score_rest = tl.dot(q, k.T), tl.where(is_key, tl.dot(q, k_rest.T), -float("inf"))
        top = tl.maximum(tl.max(score, 1), tl.max(score_rest, 1))
        weight, weight_rest = tl.exp2(score - top[:, None]), tl.exp2(score_rest - top[:, None])
        total = tl.sum(weight, 1) + tl.sum(weight_rest, 1)
        found = tl.dot(weight_rest.to(v.dtype), v_rest, tl.dot(weight.to(v.dtype), v)) / total[:, None]
        at = before + query * (HEADS * SIZE) + column[None]
        tl.store(mixed + at, found.to(v.dtype), inside)
        tl.store(queries + at, q, inside)
        tl.store(log_sums + place, top + tl.log2(total), place < LENGTH)


@triton.jit
def _query_grads(
    qkv, queries, keys, mixed, log_sums, deltas, mixed_grad, qkv_grad, scale, rotary, start,
    LENGTH: tl.constexpr, SCALE: tl.constexpr, EPS: tl.constexpr, HEADS: tl.constexpr, SIZE: tl.constexpr,
    TILE: tl.constexpr, OTHERS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Store the gradients of a tile of queries; returns that of their norm's weight, (D,)."""
    place, column = start + tl.arange(0, TILE), tl.arange(0, SIZE)[None]
    row, inside = place[:, None], (place < LENGTH)[:, None]
    at = row * (HEADS * SIZE) + column
    query, grad = tl.load(queries + at, inside, 0.0), tl.load(mixed_grad + at, inside, 0.0)
    delta = tl.sum(grad.to(tl.float32) * tl.load(mixed + at, inside, 0.0).to(tl.float32), 1)
    tl.store(deltas + place, delta, place < LENGTH)
    log_sum = tl.load(log_sums + place, place < LENGTH, 0.0)
    query_grad = tl.zeros((TILE, SIZE), tl.float32)
    for first in tl.range(0, LENGTH, OTHERS, num_stages=STAGES):
        other = first + tl.arange(0, OTHERS)[:, None]
        key = tl.load(keys + other * (HEADS * SIZE) + column, other < LENGTH, 0.0)
        value = tl.load(qkv + 2 * HEADS * SIZE + other * (3 * HEADS * SIZE) + column, other < LENGTH, 0.0)
        # Keys beyond the last are zeros: without a bound, their weights could be infinite.
        weight = tl.exp2(tl.minimum(tl.dot(query, key.T) - log_sum[:, None], 0.0))
        score_grad = weight * (tl.dot(grad, value.T) - delta[:, None])
        query_grad = tl.dot(score_grad.to(key.dtype), key, query_grad)
    cos, sin = _pairs(tl.load(rotary + row * SIZE + column, inside, 0.0))
    at = row * (3 * HEADS * SIZE) + column
    raw = tl.load(qkv + at, inside, 0.0).to(tl.float32)
    # By queries that are scaled by `SCALE`, which contains 1 / LN2.
    found, scale_grads = _grads_before(raw, query_grad * (SCALE * LN2), scale, cos, sin, EPS, SIZE)
    tl.store(qkv_grad + at, found.to(query.dtype), inside)
    return tl.sum(scale_grads, 0)


@triton.jit
def _key_grads(
    qkv, queries, keys, log_sums, deltas, mixed_grad, qkv_grad, scale, rotary, start,
    LENGTH: tl.constexpr, EPS: tl.constexpr, HEADS: tl.constexpr, SIZE: tl.constexpr,
    TILE: tl.constexpr, OTHERS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Store the gradients of a tile of keys and values; returns that of the keys' norm's weight, (D,)."""
    row, column = start + tl.arange(0, TILE)[:, None], tl.arange(0, SIZE)[None]
    at, inside = row * (3 * HEADS * SIZE) + column, row < LENGTH
    key = tl.load(keys + row * (HEADS * SIZE) + column, inside, 0.0)
    value = tl.load(qkv + 2 * HEADS * SIZE + at, inside, 0.0)
    key_grad, value_grad = tl.zeros((TILE, SIZE), tl.float32), tl.zeros((TILE, SIZE), tl.float32)
    for first in tl.range(0, LENGTH, OTHERS, num_stages=STAGES):
        other = first + tl.arange(0, OTHERS)
        other_at = other[:, None] * (HEADS * SIZE) + column
        query = tl.load(queries + other_at, (other < LENGTH)[:, None], 0.0)
        grad = tl.load(mixed_grad + other_at, (other < LENGTH)[:, None], 0.0)
        log_sum = tl.load(log_sums + other, other < LENGTH, 0.0)
        delta = tl.load(deltas + other, other < LENGTH, 0.0)
        weight = tl.exp2(tl.minimum(tl.dot(key, query.T) - log_sum[None], 0.0))  # as above
        value_grad = tl.dot(weight.to(query.dtype), grad, value_grad)
        score_grad = weight * (tl.dot(value, grad.T) - delta[None])
        key_grad = tl.dot(score_grad.to(query.dtype), query, key_grad)
    tl.store(qkv_grad + 2 * HEADS * SIZE + at, value_grad.to(key.dtype), inside)
    cos, sin = _pairs(tl.load(rotary + row * SIZE + column, inside, 0.0))
    raw = tl.load(qkv + HEADS * SIZE + at, inside, 0.0).to(tl.float32)
    found, scale_grads = _grads_before(raw, key_grad * LN2, scale, cos, sin, EPS, SIZE)
    tl.store(qkv_grad + HEADS * SIZE + at, found.to(key.dtype), inside)
    return tl.sum(scale_grads, 0)


@triton.jit
def _tile_grads(
    qkv, queries, keys, mixed, log_sums, deltas, mixed_grad, qkv_grad, scale, rotary, start,
    OF_KEYS: tl.constexpr, LENGTH: tl.constexpr, SCALE: tl.constexpr, EPS: tl.constexpr,
    HEADS: tl.constexpr, SIZE: tl.constexpr, TILE: tl.constexpr, OTHERS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    if OF_KEYS:
        found = _key_grads(
            qkv, queries, keys, log_sums, deltas, mixed_grad, qkv_grad, scale, rotary, start,
            LENGTH, EPS, HEADS, SIZE, TILE, OTHERS, STAGES,
        )  # fmt: skip
    else:
        found = _query_grads(
            qkv, queries, keys, mixed, log_sums, deltas, mixed_grad, qkv_grad, scale, rotary, start,
            LENGTH, SCALE, EPS, HEADS, SIZE, TILE, OTHERS, STAGES,
        )  # fmt: skip
    return found


@triton.jit
def _attend_backward(
    qkv, queries, keys, mixed, log_sums, deltas, mixed_grad, qkv_grad, scale_grads, scale, rotary,
    OF_KEYS: tl.constexpr, LENGTH: tl.constexpr, SCALE: tl.constexpr, EPS: tl.constexpr,
    HEADS: tl.constexpr, SIZE: tl.constexpr, TILE: tl.constexpr, REST: tl.constexpr,
    OTHERS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Gradients of the queries or, after them, of keys and values, which need the `deltas` stored there."""
    tiles: tl.constexpr = (LENGTH + TILE - 1) // TILE
    head = (tl.program_id(0) // tiles).to(tl.int64)
    start = tl.program_id(0) % tiles * TILE
    before = head // HEADS * (LENGTH * HEADS * SIZE) + head % HEADS * SIZE
    of_three = 2 * (head // HEADS * (LENGTH * HEADS * SIZE)) + before
    column = tl.arange(0, SIZE)
    scale = tl.load(scale + column).to(tl.float32)[None]
    scale_grads += tl.program_id(0) * SIZE + column
    if REST != TILE and start + TILE > LENGTH:
        found = _tile_grads(
            qkv + of_three, queries + before, keys + before, mixed + before, log_sums + head * LENGTH,
            deltas + head * LENGTH, mixed_grad + before, qkv_grad + of_three, scale, rotary, start,
            OF_KEYS, LENGTH, SCALE, EPS, HEADS, SIZE, REST, OTHERS, STAGES,
        )  # fmt: skip
    else:
        found = _tile_grads(
            qkv + of_three, queries + before, keys + before, mixed + before, log_sums + head * LENGTH,
            deltas + head * LENGTH, mixed_grad + before, qkv_grad + of_three, scale, rotary, start,
            OF_KEYS, LENGTH, SCALE, EPS, HEADS, SIZE, TILE, OTHERS, STAGES,
        )  # fmt: skip
    tl.store(scale_grads, found)


def _sizes(qkv: Tensor, eps: float) -> dict[str, int | float]:
    _, length, _, heads, size = qkv.shape
    scale = size**-0.5 / math.log(2)
    return {"LENGTH": int(length), "SCALE": scale, "EPS": eps, "HEADS": heads, "SIZE": size}


def attend(qkv: Tensor, q_scale: Tensor, k_scale: Tensor, rotary: Tensor, eps: float) -> Tensor:
    """As `attention_kernel.attention`, but of `SHORTEST` to `LONGEST` positions, and differentiable."""
    return attend_forward(qkv, q_scale, k_scale, rotary, eps)[0]  # type: ignore[no-any-return]


@triton_op("elf_lightning::attend_forward", mutates_args={})
def attend_forward(
    qkv: Tensor, q_scale: Tensor, k_scale: Tensor, rotary: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same, and what its gradient needs.

    That is binary logarithms of the sums of softmax, (B, heads, N) float32, and queries and keys as attention
    takes them, of the shape of the result.
    """
    batch, length, _, heads, size = qkv.shape
    mixed, queries, keys = (qkv.new_empty(batch, length, heads, size) for _ in range(3))
    log_sums = qkv.new_empty(batch, heads, length, dtype=torch.float32)
    first = triton.next_power_of_2(int(length)) // 2
    with torch.cuda.device_of(qkv):
        wrap_triton(_attend)[(batch * heads,)](
            qkv.contiguous(), mixed, log_sums, queries, keys, q_scale, k_scale, rotary.contiguous(),
            FIRST=first, REST=max(16, triton.next_power_of_2(int(length) - first)),
            **_sizes(qkv, eps), **FORWARD,
        )  # fmt: skip
    return mixed, log_sums, queries, keys


@triton_op("elf_lightning::attend_backward", mutates_args={})
def attend_backward(
    qkv: Tensor, mixed: Tensor, log_sums: Tensor, queries: Tensor, keys: Tensor, mixed_grad: Tensor,
    q_scale: Tensor, k_scale: Tensor, rotary: Tensor, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of `qkv` and of both scales, the latter (head_size,) float32."""
    batch, length, _, heads, size = qkv.shape
    qkv, mixed_grad, rotary = qkv.contiguous(), mixed_grad.contiguous(), rotary.contiguous()
    qkv_grad, deltas = torch.empty_like(qkv), torch.empty_like(log_sums)
    programs = triton.cdiv(length, BACKWARD["TILE"]) * batch * heads
    scale_grads = [qkv.new_empty(programs, size, dtype=torch.float32) for _ in range(2)]
    rest = int(length) % BACKWARD["TILE"]
    with torch.cuda.device_of(qkv):
        for of_keys, scale in enumerate([q_scale, k_scale]):
            wrap_triton(_attend_backward)[(programs,)](
                qkv, queries, keys, mixed, log_sums, deltas, mixed_grad, qkv_grad, scale_grads[of_keys],
                scale, rotary, OF_KEYS=of_keys, REST=16 if 0 < rest <= 16 else BACKWARD["TILE"],
                **_sizes(qkv, eps), **BACKWARD,
            )  # fmt: skip
    q_scale_grad, k_scale_grad = (grads.sum(dim=0) for grads in scale_grads)
    return qkv_grad, q_scale_grad, k_scale_grad


def fits(h: Tensor) -> bool:
    """Whether `attend` takes hidden states (B, N, H) of this length."""
    return SHORTEST <= h.shape[1] <= LONGEST


def _keep(ctx, inputs, output):
    *tensors, ctx.eps = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.set_materialize_grads(False)  # no zeros for what is kept


def _gradient(ctx, mixed_grad, *_):
    qkv, q_scale, k_scale, rotary, *kept = ctx.saved_tensors
    qkv_grad, *scale_grads = attend_backward(qkv, *kept, mixed_grad, q_scale, k_scale, rotary, ctx.eps)
    return qkv_grad, *(grad.to(q_scale.dtype) for grad in scale_grads), None, None


attend_forward.register_autograd(_gradient, setup_context=_keep)
