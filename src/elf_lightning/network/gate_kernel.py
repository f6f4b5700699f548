"""A Triton kernel for the gated layer in large passes without gradient, in bfloat16.

Product, SiLU and gating in one kernel save writing and reading gates and values. docs/performance.md has what
it gains. Importing this module needs Triton.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import custom_op
from triton.tools.tensor_descriptor import TensorDescriptor

from elf_lightning.network.kernels import is_measured

TOKENS, COLUMNS, INNER, STAGES = 128, 64, 64, 2  # of a tile, along hidden states, stages of the pipeline
# Tokens x H x W from which it is used: launching it takes 0.13 ms of the host, these 0.4 ms of the GPU.
LARGE = 2**36


@triton.jit
def _gated_layer(
    x, weight, bias, y, SIZE: tl.constexpr, WIDTH: tl.constexpr,
    TOKENS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) // (WIDTH // COLUMNS) * TOKENS
    column = tl.program_id(0) % (WIDTH // COLUMNS) * COLUMNS
    gate = tl.zeros((TOKENS, COLUMNS), tl.float32)
    value = tl.zeros((TOKENS, COLUMNS), tl.float32)
    for place in tl.range(0, SIZE, INNER, num_stages=STAGES):
        part = x.load([row, place])
        gate = tl.dot(part, weight.load([column, place]).T, gate)
        value = tl.dot(part, weight.load([WIDTH + column, place]).T, value)
    bias += column + tl.arange(0, COLUMNS)
    gate += tl.load(bias).to(tl.float32)[None]
    value += tl.load(bias + WIDTH).to(tl.float32)[None]
    y.store([row, column], (gate * tl.sigmoid(gate) * value).to(y.dtype))


def pays_off(x: Tensor, width: int) -> bool:
    """Whether `gated_layer` is used for hidden states (B, N, H) and this W: faster, as far as measured."""
    tiled = x.shape[-1] % INNER == 0 and width % COLUMNS == 0
    return is_measured(x) and tiled and x.numel() * width >= LARGE


@custom_op("elf_lightning::gated_layer", mutates_args=())
def gated_layer(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`silu(gate) * value` of the linear layer's gates and values; not differentiable.

    Args:
        x: (B, N, H) hidden states; H is a multiple of 64.
        weight: (2 W, H) of gates before values, of the type of `x`; W is a multiple of 64.
        bias: (2 W,).

    Returns:
        (B, N, W), of the type of `x`.
    """
    size, width = x.shape[-1], len(weight) // 2
    y = x.new_empty(*x.shape[:-1], width)
    tiles = [(x, TOKENS, INNER), (weight, COLUMNS, INNER), (y, TOKENS, COLUMNS)]
    described = [
        TensorDescriptor.from_tensor(whole.contiguous().view(-1, whole.shape[-1]), [rows, columns])
        for whole, rows, columns in tiles
    ]
    grid = (triton.cdiv(y.numel() // width, TOKENS) * (width // COLUMNS),)
    with torch.cuda.device_of(x):
        _gated_layer[grid](
            *described[:2], bias, described[2],
            SIZE=size, WIDTH=width, TOKENS=TOKENS, COLUMNS=COLUMNS, INNER=INNER, STAGES=STAGES,
        )  # fmt: skip
    return y


@gated_layer.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], len(weight) // 2)
