"""Triton kernels for the parts of a block that `torch.compile` makes about half as fast as they could be.

They compute the formulas of `blocks`, in float32, and their gradients, compiled or not, but no second
derivatives. Importing this module needs Triton. docs/performance.md has what they gain.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton

TOKENS = 16  # for a program: with heads of 64, each of its 128 threads has 8 values
ROWS = 4  # of a norm, for a program
COLUMNS = 1024  # of the feed-forward layer, for a program: 8 for each thread
VALUES = 1024  # of rows at once, for a program that goes through many of them: 8 for each thread
# Programs that go through all rows, to sum up gradients of parameters. Up to a width of 768, their registers
# (80) allow 6 on each multiprocessor of an H200: all run at once.
PROGRAMS = 6 * 132


@triton.jit
def _pairs(x):
    """Even and odd columns (T, D / 2) of (T, D)."""
    return tl.split(tl.reshape(x, (x.shape[0], x.shape[1] // 2, 2)))


@triton.jit
def _columns(even, odd):
    """The reverse of `_pairs`."""
    return tl.reshape(tl.join(even, odd), (even.shape[0], even.shape[1] * 2))


@triton.jit
def _normed_and_rotated(row, scale, cos, sin, EPS: tl.constexpr, SIZE: tl.constexpr):
    """Rows (T, D), of which the first `SIZE` columns count; cosines and sines (T, D / 2)."""
    even, odd = _pairs(row * tl.rsqrt(tl.sum(row * row, 1) / SIZE + EPS)[:, None] * scale)
    return _columns(even * cos - odd * sin, even * sin + odd * cos)


@triton.jit
def _normed(row, scale, EPS: tl.constexpr, SIZE: tl.constexpr):
    """Rows (T, D), of which the first `SIZE` columns count."""
    return row * scale * tl.rsqrt(tl.sum(row * row, 1) / SIZE + EPS)[:, None]


@triton.jit
def _grads_before_norm(row, grad, scale, EPS: tl.constexpr, SIZE: tl.constexpr):
    """Gradients of rows (T, D), from those after the norm, and what each adds to the scale's."""
    inverse_rms = tl.rsqrt(tl.sum(row * row, 1) / SIZE + EPS)[:, None]
    row *= inverse_rms
    scale_grads = grad * row
    grad *= scale
    return inverse_rms * (grad - row * (tl.sum(grad * row, 1) / SIZE)[:, None]), scale_grads


@triton.jit
def _grads_before(row, grad, scale, cos, sin, EPS: tl.constexpr, SIZE: tl.constexpr):
    """The same, from gradients after `_normed_and_rotated`."""
    even, odd = _pairs(grad)
    grad = _columns(even * cos + odd * sin, odd * cos - even * sin)
    return _grads_before_norm(row, grad, scale, EPS, SIZE)


@triton.jit
def _norm_and_rotate(
    x, q_scale, k_scale, rotary, q, k, tokens, length, PARTS: tl.constexpr,
    EPS: tl.constexpr, HEADS: tl.constexpr, SIZE: tl.constexpr, PADDED: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    column = tl.arange(0, PADDED)
    inside = (token < tokens)[:, None] & (column < SIZE)[None]
    cos, sin = _pairs(tl.load(rotary + (token % length)[:, None] * SIZE + column[None], inside, 0.0))
    place = token[:, None] * (HEADS * SIZE) + column[None]
    for part in tl.static_range(PARTS - 2, 2):  # beside values, as third part, the keys alone
        scale = tl.load((q_scale if part == 0 else k_scale) + column, column < SIZE, 0.0)[None].to(tl.float32)
        source = x + token[:, None] * ((PARTS - 1) * HEADS * SIZE) + place + part * HEADS * SIZE
        target = (q if part == 0 else k) + place
        for head in range(HEADS):
            row = tl.load(source + head * SIZE, inside, 0.0).to(tl.float32)
            row = _normed_and_rotated(row, scale, cos, sin, EPS, SIZE)
            tl.store(target + head * SIZE, row.to(target.dtype.element_ty), inside)


@triton.jit
def _norm_and_rotate_backward(
    x, q_scale, k_scale, rotary, q_grad, k_grad, x_grad, scale_grads, tokens, length,
    EPS: tl.constexpr, HEADS: tl.constexpr, SIZE: tl.constexpr, PADDED: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    # As above: if a function of both kernels loads the angles, `torch.compile` cannot tell what they write.
    token = program * TOKENS + tl.arange(0, TOKENS)
    column = tl.arange(0, PADDED)
    inside = (token < tokens)[:, None] & (column < SIZE)[None]
    cos, sin = _pairs(tl.load(rotary + (token % length)[:, None] * SIZE + column[None], inside, 0.0))
    place = token[:, None] * (HEADS * SIZE) + column[None]
    for part in tl.static_range(2):
        scale = tl.load((q_scale if part == 0 else k_scale) + column, column < SIZE, 0.0)[None].to(tl.float32)
        grads = (q_grad if part == 0 else k_grad) + place
        both = token[:, None] * (HEADS * SIZE) + place + part * HEADS * SIZE
        scale_grad = tl.zeros((TOKENS, PADDED), tl.float32)
        for head in range(HEADS):
            row = tl.load(x + both + head * SIZE, inside, 0.0).to(tl.float32)
            grad = tl.load(grads + head * SIZE, inside, 0.0).to(tl.float32)
            grad, of_scale = _grads_before(row, grad, scale, cos, sin, EPS, SIZE)
            scale_grad += of_scale
            tl.store(x_grad + both + head * SIZE, grad.to(x_grad.dtype.element_ty), inside)
        tl.store(scale_grads + (program * 2 + part) * SIZE + column, tl.sum(scale_grad, 0), column < SIZE)


@triton.jit
def _norm(
    x, bias, scale, y, rows,
    EPS: tl.constexpr, SIZE: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, PADDED)
    inside = (row < rows)[:, None] & (column < SIZE)[None]
    place = row[:, None] * SIZE + column[None]
    shifted = tl.load(x + place, inside, 0.0).to(tl.float32)
    shifted += tl.load(bias + column, column < SIZE, 0.0)[None].to(tl.float32)
    scale = tl.load(scale + column, column < SIZE, 0.0)[None].to(tl.float32)
    tl.store(y + place, _normed(shifted, scale, EPS, SIZE).to(y.dtype.element_ty), inside)


@triton.jit
def _add_norm(
    h, x, bias, scale, total, normed, rows,
    EPS: tl.constexpr, SIZE: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, PADDED)
    inside = (row < rows)[:, None] & (column < SIZE)[None]
    place = row[:, None] * SIZE + column[None]
    found = tl.load(h + place, inside, 0.0).to(tl.float32) + tl.load(x + place, inside, 0.0).to(tl.float32)
    found += tl.load(bias + column, column < SIZE, 0.0)[None].to(tl.float32)
    rounded = found.to(total.dtype.element_ty)
    tl.store(total + place, rounded, inside)
    scale = tl.load(scale + column, column < SIZE, 0.0)[None].to(tl.float32)
    found = _normed(rounded.to(tl.float32), scale, EPS, SIZE)  # of the sum as the gradient will see it
    tl.store(normed + place, found.to(normed.dtype.element_ty), inside)


@triton.jit
def _add_norm_backward(
    total, scale, total_grad, normed_grad, grad, sums, rows,
    EPS: tl.constexpr, SIZE: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, PADDED)
    weight = tl.load(scale + column, column < SIZE, 0.0)[None].to(tl.float32)
    bias_grad = tl.zeros((ROWS, PADDED), tl.float32)
    scale_grad = tl.zeros((ROWS, PADDED), tl.float32)
    first = program * ROWS
    while first < rows:  # for Triton's interpreter, `range` would have to be constant
        row = first + tl.arange(0, ROWS)
        inside = (row < rows)[:, None] & (column < SIZE)[None]
        place = row[:, None] * SIZE + column[None]
        unnormed = tl.load(total + place, inside, 0.0).to(tl.float32)
        found = tl.load(normed_grad + place, inside, 0.0).to(tl.float32)
        found, of_scale = _grads_before_norm(unnormed, found, weight, EPS, SIZE)
        found += tl.load(total_grad + place, inside, 0.0).to(tl.float32)
        scale_grad += of_scale
        bias_grad += found
        tl.store(grad + place, found.to(grad.dtype.element_ty), inside)
        first += tl.num_programs(0) * ROWS
    sums += program * (2 * SIZE) + column
    tl.store(sums, tl.sum(bias_grad, 0), column < SIZE)
    tl.store(sums + SIZE, tl.sum(scale_grad, 0), column < SIZE)


@triton.jit
def _swiglu(x, bias, y, WIDTH: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < WIDTH
    gate_at = x + row * (2 * WIDTH) + column
    gate = tl.load(gate_at, inside, 0.0).to(tl.float32)
    value = tl.load(gate_at + WIDTH, inside, 0.0).to(tl.float32)
    gate += tl.load(bias + column, inside, 0.0).to(tl.float32)
    value += tl.load(bias + WIDTH + column, inside, 0.0).to(tl.float32)
    tl.store(y + row * WIDTH + column, (gate * tl.sigmoid(gate) * value).to(y.dtype.element_ty), inside)


@triton.jit
def _swiglu_backward(x, bias, y_grad, x_grad, sums, rows, WIDTH: tl.constexpr, COLUMNS: tl.constexpr):
    program = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < WIDTH
    gate_bias = tl.load(bias + column, inside, 0.0).to(tl.float32)
    value_bias = tl.load(bias + WIDTH + column, inside, 0.0).to(tl.float32)
    gate_sum = tl.zeros((COLUMNS,), tl.float32)
    value_sum = tl.zeros((COLUMNS,), tl.float32)
    row = program
    while row < rows:  # for Triton's interpreter, `range` would have to be constant
        place = row * (2 * WIDTH) + column
        gate = tl.load(x + place, inside, 0.0).to(tl.float32) + gate_bias
        value = tl.load(x + place + WIDTH, inside, 0.0).to(tl.float32) + value_bias
        grad = tl.load(y_grad + row * WIDTH + column, inside, 0.0).to(tl.float32)
        on = tl.sigmoid(gate)
        gate_grad = grad * value * on * (1 + gate * (1 - on))
        value_grad = grad * gate * on
        gate_sum += gate_grad
        value_sum += value_grad
        tl.store(x_grad + place, gate_grad.to(x_grad.dtype.element_ty), inside)
        tl.store(x_grad + place + WIDTH, value_grad.to(x_grad.dtype.element_ty), inside)
        row += tl.num_programs(0)
    sums += program * (2 * WIDTH) + column
    tl.store(sums, gate_sum, inside)
    tl.store(sums + WIDTH, value_sum, inside)


def is_measured(h: Tensor) -> bool:
    """Whether the kernels for attention and for large gated layers were measured for such hidden states."""
    return h.dtype == torch.bfloat16 and torch.cuda.get_device_properties(h.device).major == 9  # Hopper


@triton_op("elf_lightning::norm_and_rotate", mutates_args={})
def norm_and_rotate(
    x: Tensor, q_scale: Tensor, k_scale: Tensor, rotary: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Queries and keys with their root-mean-square norms, then rotated.

    Args:
        x: (B, N, 2, heads, head_size), queries before keys.
        q_scale: (head_size,) weight of the queries' norm.
        k_scale: the same of the keys.
        rotary: (N, 1, head_size / 2, 2) float32, a `rotary_table`.
        eps: added to the mean square.

    Returns:
        Queries and keys, (B, N, heads, head_size) each, of the type of `x`.
    """
    batch, length, _, heads, size = x.shape
    q, k = (x.new_empty(batch, length, heads, size) for _ in range(2))
    with torch.cuda.device_of(x):  # Triton launches on the current GPU, wherever the tensors are
        wrap_triton(_norm_and_rotate)[(triton.cdiv(batch * length, TOKENS),)](
            x.contiguous(), q_scale, k_scale, rotary.contiguous(), q, k, batch * length, length,
            PARTS=2, EPS=eps, HEADS=heads, SIZE=size, PADDED=triton.next_power_of_2(size),
            TOKENS=TOKENS,
        )  # fmt: skip
    return q, k


@triton_op("elf_lightning::norm_and_rotate_backward", mutates_args={})
def norm_and_rotate_backward(
    x: Tensor, q_scale: Tensor, k_scale: Tensor, rotary: Tensor, q_grad: Tensor, k_grad: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Gradients of `x` and of both scales, the latter as (2, head_size) float32."""
    batch, length, _, heads, size = x.shape
    programs = triton.cdiv(batch * length, TOKENS)
    x_grad = torch.empty_like(x, memory_format=torch.contiguous_format)
    scale_grads = x.new_empty(programs, 2, size, dtype=torch.float32)
    with torch.cuda.device_of(x):
        wrap_triton(_norm_and_rotate_backward)[(programs,)](
            x.contiguous(), q_scale, k_scale, rotary.contiguous(), q_grad.contiguous(), k_grad.contiguous(),
            x_grad, scale_grads, batch * length, length,
            EPS=eps, HEADS=heads, SIZE=size, PADDED=triton.next_power_of_2(size), TOKENS=TOKENS,
        )  # fmt: skip
    return x_grad, scale_grads.sum(dim=0)


@triton_op("elf_lightning::norm", mutates_args={})
def norm(x: Tensor, bias: Tensor, scale: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm of `x + bias`, of the shape (..., size) and type of `x`; not differentiable.

    Args:
        x: (..., size).
        bias: (size,).
        scale: (size,) weight of the norm.
        eps: added to the mean square.
    """
    size, y = x.shape[-1], torch.empty_like(x, memory_format=torch.contiguous_format)
    rows = x.numel() // size
    with torch.cuda.device_of(x):
        wrap_triton(_norm)[(triton.cdiv(rows, ROWS),)](
            x.contiguous(), bias, scale, y, rows,
            EPS=eps, SIZE=size, PADDED=triton.next_power_of_2(size), ROWS=ROWS,
        )  # fmt: skip
    return y


@triton_op("elf_lightning::add_norm", mutates_args={})
def add_norm(h: Tensor, x: Tensor, bias: Tensor, scale: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The sum `h + x + bias`, and its root-mean-square norm.

    Args:
        h: (..., size).
        x: the same shape.
        bias: (size,).
        scale: (size,) weight of the norm.
        eps: added to the mean square.

    Returns:
        The sum, and the norm of the sum as rounded, both of the shape and type of `h`.
    """
    size = h.shape[-1]
    total, normed = (torch.empty_like(h, memory_format=torch.contiguous_format) for _ in range(2))
    rows = h.numel() // size
    with torch.cuda.device_of(h):
        wrap_triton(_add_norm)[(triton.cdiv(rows, ROWS),)](
            h.contiguous(), x.contiguous(), bias, scale, total, normed, rows,
            EPS=eps, SIZE=size, PADDED=triton.next_power_of_2(size), ROWS=ROWS,
        )  # fmt: skip
    return total, normed


@triton_op("elf_lightning::add_norm_backward", mutates_args={})
def add_norm_backward(
    total: Tensor, scale: Tensor, total_grad: Tensor, normed_grad: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Gradients of `h`, which is that of `x` too, and of bias and scale, the latter as (2, size) float32."""
    size, padded = total.shape[-1], triton.next_power_of_2(total.shape[-1])
    grad = torch.empty_like(total)
    sums = total.new_empty(PROGRAMS, 2, size, dtype=torch.float32)
    with torch.cuda.device_of(total):
        wrap_triton(_add_norm_backward)[(PROGRAMS,)](
            total, scale, total_grad.contiguous(), normed_grad.contiguous(), grad, sums,
            total.numel() // size, EPS=eps, SIZE=size, PADDED=padded, ROWS=max(1, VALUES // padded),
        )  # fmt: skip
    return grad, sums.sum(dim=0)


@triton_op("elf_lightning::swiglu", mutates_args={})
def swiglu(x: Tensor, bias: Tensor) -> Tensor:
    """`silu(gate) * value` (..., W) of `x + bias`, of the type of `x`.

    Args:
        x: (..., 2 W), gates before values.
        bias: (2 W,).
    """
    width = x.shape[-1] // 2
    y = x.new_empty(*x.shape[:-1], width)
    grid = (y.numel() // width, triton.cdiv(width, COLUMNS))
    with torch.cuda.device_of(x):
        wrap_triton(_swiglu)[grid](x.contiguous(), bias, y, WIDTH=width, COLUMNS=COLUMNS)
    return y


@triton_op("elf_lightning::swiglu_backward", mutates_args={})
def swiglu_backward(x: Tensor, bias: Tensor, y_grad: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of `x` and of the bias, the latter as (2 W,) float32."""
    width = x.shape[-1] // 2
    x_grad = torch.empty_like(x, memory_format=torch.contiguous_format)
    parts = triton.cdiv(width, COLUMNS)
    sums = x.new_empty(PROGRAMS // parts, 2 * width, dtype=torch.float32)
    with torch.cuda.device_of(x):
        wrap_triton(_swiglu_backward)[(PROGRAMS // parts, parts)](
            x.contiguous(), bias, y_grad.contiguous(), x_grad, sums, y_grad.numel() // width,
            WIDTH=width, COLUMNS=COLUMNS,
        )  # fmt: skip
    return x_grad, sums.sum(dim=0)


def _keep(ctx, inputs, output):
    *tensors, ctx.eps = inputs
    ctx.save_for_backward(*tensors)


def _norm_and_rotate_gradient(ctx, q_grad, k_grad):
    x, q_scale, k_scale, rotary = ctx.saved_tensors
    x_grad, scale_grads = norm_and_rotate_backward(x, q_scale, k_scale, rotary, q_grad, k_grad, ctx.eps)
    return x_grad, *scale_grads.to(q_scale.dtype).unbind(), None, None


def _keep_total(ctx, inputs, output):
    *_, scale, ctx.eps = inputs
    ctx.save_for_backward(output[0], scale)


def _add_norm_gradient(ctx, total_grad, normed_grad):
    total, scale = ctx.saved_tensors
    grad, sums = add_norm_backward(total, scale, total_grad, normed_grad, ctx.eps)
    return grad, grad, *sums.to(scale.dtype).unbind(), None


def _swiglu_gradient(ctx, y_grad):
    x, bias = ctx.saved_tensors
    x_grad, bias_grad = swiglu_backward(x, bias, y_grad)
    return x_grad, bias_grad.to(bias.dtype)


norm_and_rotate.register_autograd(_norm_and_rotate_gradient, setup_context=_keep)
add_norm.register_autograd(_add_norm_gradient, setup_context=_keep_total)
swiglu.register_autograd(
    _swiglu_gradient, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs)
)
