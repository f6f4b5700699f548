"""Prints the largest errors of the Triton kernels beside the formulas of `blocks`, as JSON.

A program of its own, since Triton decides at its first import whether it compiles or interprets.
"""

import json
from contextlib import ExitStack
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from elf_lightning.network import (
    NetworkConfig,
    attention_kernel,
    blocks,
    gate_kernel,
    kernels,
    short_attention_kernel,
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ATTENDED = torch.bfloat16 if DEVICE == "cuda" else torch.float32  # where products of float32 would be TF32


def largest_error(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> float:
    return max(
        ((one - two).abs().max() / two.abs().max()).item() for one, two in zip(ours, theirs, strict=True)
    )


def errors(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...], inputs: list[Tensor]) -> list[float]:
    grads = [torch.randn_like(one) for one in theirs]
    gradients = [torch.autograd.grad(outputs, inputs, grads) for outputs in (ours, theirs)]
    return [largest_error(ours, theirs), largest_error(*gradients)]


def attention_parts(hidden_size: int, heads: int) -> list[float]:
    attention = blocks.Attention(hidden_size, heads, dropout=0.0).to(DEVICE)
    h = torch.randn(2, 9, hidden_size, device=DEVICE, requires_grad=True)
    rotary = blocks.rotary_table(hidden_size // heads, 2, 7).to(DEVICE)
    inputs = [h, *attention.qkv.parameters(), attention.q_norm.weight, attention.k_norm.weight]
    return errors(attention._parts_by_kernel(h, rotary), attention._parts(h, rotary), inputs)


def attention_without_gradient(hidden_size: int, heads: int) -> list[float]:
    attention = blocks.Attention(hidden_size, heads, dropout=0.0).to(DEVICE, ATTENDED)
    h = torch.randn(2, 9, hidden_size, device=DEVICE, dtype=ATTENDED)
    rotary = blocks.rotary_table(hidden_size // heads, 2, 7).to(DEVICE)
    with torch.no_grad(), patch.object(blocks, "by_kernel", lambda h: False):
        theirs = attention(h, rotary, None)
    always = patch.object(attention_kernel, "pays_off", lambda h, heads: True)
    with torch.no_grad(), patch.object(blocks, "by_kernel", lambda h: True), always:
        ours = attention(h, rotary, None)
    return [largest_error((ours.float(),), (theirs.float(),))]


def added_in_place() -> list[float]:
    config = NetworkConfig(hidden_size=64, depth=2, num_heads=1, bottleneck_size=8, mlp_ratio=3.0)
    layers = blocks.Blocks(config).to(DEVICE, ATTENDED)
    h = torch.randn(2, 70, 64, device=DEVICE, dtype=ATTENDED)
    rotary = blocks.rotary_table(64, 2, 68).to(DEVICE)
    with torch.no_grad(), patch.object(blocks, "by_kernel", lambda h: False):
        theirs = layers(h[:, :2], h[:, 2:], rotary, None)
    with torch.no_grad(), ExitStack() as always:
        always.enter_context(patch.object(blocks, "by_kernel", lambda h: True))
        for kernel in (attention_kernel, gate_kernel):
            always.enter_context(patch.object(kernel, "pays_off", lambda h, size: True))
        ours = layers.in_place(h.clone(), rotary, None)[:, 2:]
    return [largest_error((ours.float(),), (theirs.float(),))]


def fused_blocks(masked: bool = False, attended: bool = False) -> list[float]:
    config = NetworkConfig(64, 3, 2, 8, mlp_ratio=3.0)
    dtype = ATTENDED if attended else torch.float32
    layers = blocks.Blocks(config).to(DEVICE)
    for parameter in layers.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    layers.to(dtype)
    prefix, text = (
        torch.randn(2, length, 64, device=DEVICE, dtype=dtype, requires_grad=True) for length in (2, 17)
    )
    rotary = blocks.rotary_table(32, 2, 17).to(DEVICE)
    mask = torch.rand(2, 1, 1, 19, device=DEVICE) < 0.7 if masked else None
    grad = torch.randn_like(text)
    found = []
    for used in (True, False):
        with (
            patch.object(blocks, "by_kernel", lambda h, used=used: used),
            patch.object(attention_kernel, "pays_off", lambda h, heads: attended),
            patch.object(kernels, "add_norm", wraps=kernels.add_norm) as fused,
        ):
            hidden = layers(prefix, text, rotary, mask)
            found.append([hidden, *torch.autograd.grad(hidden, [prefix, text, *layers.parameters()], grad)])
        assert fused.call_count == (2 * len(layers) - 1 if used else 0)
    return [largest_error(*found)]


def normed_and_rotated(batch: int, length: int, heads: int, size: int) -> list[float]:
    x = torch.randn(batch, length, 2, heads, size, device=DEVICE, requires_grad=True)
    scales = [torch.randn(size, device=DEVICE, requires_grad=True) for _ in range(2)]
    rotary = blocks.rotary_table(size, 3, length - 3).to(DEVICE)
    theirs = tuple(
        blocks.rotate(F.rms_norm(part, (size,), scale, blocks.EPS), rotary)
        for part, scale in zip(x.unbind(2), scales, strict=True)
    )
    return errors(kernels.norm_and_rotate(x, *scales, rotary, blocks.EPS), theirs, [x, *scales])


def normed(rows: int, size: int) -> list[float]:
    x, norm = torch.randn(2, rows, size, device=DEVICE), blocks.RMSNorm(size).to(DEVICE)
    bias, norm.weight.data = (torch.randn(size, device=DEVICE) for _ in range(2))
    return [largest_error((kernels.norm(x, bias, norm.weight, blocks.EPS),), (norm(x + bias),))]


def gated(rows: int, width: int) -> list[float]:
    x = torch.randn(2, rows, 2 * width, device=DEVICE, requires_grad=True)
    bias = torch.randn(2 * width, device=DEVICE, requires_grad=True)
    gate, value = (x + bias).chunk(2, dim=-1)
    return errors((kernels.swiglu(x, bias),), (F.silu(gate) * value,), [x, bias])


def mixed_types(rows: int, size: int) -> list[float]:
    """As in training: bfloat16 between layers, parameters in float32."""
    h, x = (torch.randn(rows, size, device=DEVICE).bfloat16().requires_grad_() for _ in range(2))
    bias, scale = (torch.randn(size, device=DEVICE, requires_grad=True) for _ in range(2))
    total = (h.float() + x.float() + bias).bfloat16()
    normed = F.rms_norm(total.float(), (size,), scale, blocks.EPS).bfloat16()
    gate, value = (total.float() + bias).chunk(2, dim=-1)
    gated = (F.silu(gate) * value).bfloat16()
    ours = kernels.add_norm(h, x, bias, scale, blocks.EPS)
    ours = (*ours, kernels.swiglu(ours[0], bias))
    assert all(one.dtype == torch.bfloat16 for one in ours)
    return errors(ours, (total, normed, gated), [h, x, bias, scale])


def added_and_normed(rows: int, size: int) -> list[float]:
    h, x = (torch.randn(2, rows, size, device=DEVICE, requires_grad=True) for _ in range(2))
    bias, scale = (torch.randn(size, device=DEVICE, requires_grad=True) for _ in range(2))
    theirs = h + x + bias
    normed = F.rms_norm(theirs, (size,), scale, blocks.EPS)
    return errors(kernels.add_norm(h, x, bias, scale, blocks.EPS), (theirs, normed), [h, x, bias, scale])


def attended(
    batch: int, length: int, heads: int, size: int, scale: float, short: bool = False
) -> list[float]:
    scales = [(scale * torch.randn(size, device=DEVICE)).requires_grad_() for _ in range(2)]
    qkv = torch.randn(batch, length, 3, heads, size, device=DEVICE).to(ATTENDED).requires_grad_()
    rotary = blocks.rotary_table(size, 3, length - 3).to(DEVICE)
    *parts, v = (part.float() for part in qkv.unbind(2))
    q, k = (
        blocks.rotate(F.rms_norm(part, (size,), weight, blocks.EPS), rotary)
        for part, weight in zip(parts, scales, strict=True)
    )
    theirs = F.scaled_dot_product_attention(*(part.transpose(1, 2) for part in (q, k, v)))
    theirs = theirs.transpose(1, 2)
    if short:
        ours = short_attention_kernel.attend(qkv, *scales, rotary, blocks.EPS)
        return errors((ours.float(),), (theirs,), [qkv, *scales])
    with torch.no_grad():
        ours = attention_kernel.attention(qkv, *scales, rotary, blocks.EPS)
    return [largest_error((ours.float(),), (theirs,))]


def attended_opposite_keys(length: int, size: int) -> list[float]:
    """All scores are far below 0, which is the score of keys beyond the last."""
    direction = torch.randn(size, device=DEVICE)
    qkv = torch.randn(1, length, 3, 1, size, device=DEVICE)
    qkv[:, :, 0, 0] = direction + 0.05 * torch.randn(length, size, device=DEVICE)
    qkv[:, :, 1, 0] = -direction + 0.05 * torch.randn(length, size, device=DEVICE)
    qkv = qkv.to(ATTENDED).requires_grad_()
    scales = [torch.full((size,), 4.0, device=DEVICE, requires_grad=True) for _ in range(2)]
    mixed = short_attention_kernel.attend(qkv, *scales, blocks.rotary_table(size, length, 0).to(DEVICE), 1e-6)
    found = [mixed, *torch.autograd.grad(mixed.float().sum(), [qkv, *scales])]
    return [0.0 if all(one.isfinite().all() for one in found) else float("inf")]


def gated_layer(rows: int, size: int, width: int) -> list[float]:
    x, weight, bias = (
        torch.randn(*shape, device=DEVICE).to(ATTENDED)
        for shape in [(2, rows, size), (2 * width, size), (2 * width,)]
    )
    gate, value = F.linear(x.float(), weight.float(), bias.float()).chunk(2, dim=-1)
    return [largest_error((gate_kernel.gated_layer(x, weight, bias).float(),), (F.silu(gate) * value,))]


torch.manual_seed(0)
kernels.PROGRAMS = 4  # so that each goes through several rows
blocks.kernels = kernels  # which it imports only where there is a GPU
blocks.attention_kernel, blocks.gate_kernel = attention_kernel, gate_kernel
blocks.short_attention_kernel = short_attention_kernel
found = {
    f"norm and rotation {sizes}": normed_and_rotated(*sizes) for sizes in [(2, 21, 3, 16), (3, 7, 2, 10)]
}
found |= {f"gate {sizes}": gated(*sizes) for sizes in [(5, 1024), (3, 1030), (2, 6)]}
found |= {f"norm {sizes}": normed(*sizes) for sizes in [(5, 64), (3, 90)]}
found |= {f"sum and norm {sizes}": added_and_normed(*sizes) for sizes in [(5, 64), (19, 90), (3, 1030)]}
found |= {"attention": attention_parts(48, 4)}
found |= {"torch.bfloat16 between layers": mixed_types(19, 90)}
found |= {f"torch.float32 fused blocks, mask {masked}": fused_blocks(masked) for masked in (False, True)}
# All keys in whole tiles, a short rest, and a long one.
sizes = [(2, 70, 3, 32, 0.7), (1, 64, 2, 64, 0.7), (1, 100, 1, 32, 0.7)]
found |= {f"{ATTENDED} softmax {size}": attended(*size) for size in sizes}
# Scores so large that softmax needs its maximum: in float32, some powers of two would be infinite.
sizes = [(1, 128, 1, 32, 5.0), (2, 13, 2, 64, 6.0)]
found |= {f"{ATTENDED} softmax of large scores {size}": attended(*size) for size in sizes}
# Keys: a power of two, and a rest that is shorter than 16, longer, or as long; one tile or several.
sizes = [(2, 70, 2, 32, 0.7), (1, 140, 2, 64, 0.7), (2, 17, 1, 16, 0.7)]
found |= {f"{ATTENDED} short softmax {size}": attended(*size, short=True) for size in sizes}
for size in [(1, 100, 1, 16, 5.0), (1, 192, 1, 16, 2.0)]:
    found[f"{ATTENDED} softmax of large scores, short {size}"] = attended(*size, short=True)
found |= {f"{ATTENDED} short softmax of opposite keys": attended_opposite_keys(20, 64)}
found |= {f"{ATTENDED} attention": attention_without_gradient(64, 2)}
found |= {f"{ATTENDED} gated layer {sizes}": gated_layer(*sizes) for sizes in [(70, 64, 128), (64, 192, 64)]}
found |= {f"{ATTENDED} blocks": added_in_place()}
found |= {f"{ATTENDED} blocks with gradient": fused_blocks(attended=True)}
for length, expected in {16: False, 17: True, 192: True, 193: False}.items():
    assert short_attention_kernel.fits(torch.empty(1, length, 64)) == expected
print(json.dumps(found))
