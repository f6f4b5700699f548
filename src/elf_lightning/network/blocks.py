"""The transformer blocks: nearly all of the network's work, and the part that is compiled."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from elf_lightning.compiling import can_compile, computes_in_bfloat16
from elf_lightning.network.config import NetworkConfig

# Importing the kernels takes a second, since it imports the compiler.
if HAS_KERNELS := (
    torch.version.cuda is not None and torch.cuda.device_count() > 0 and can_compile(torch.device("cuda"))
):
    from elf_lightning.network import attention_kernel, gate_kernel, kernels, short_attention_kernel

EPS = 1e-6


def by_kernel(h: Tensor) -> bool:
    """Whether `kernels` compute these hidden states."""
    return HAS_KERNELS and h.is_cuda


def by_kernel_without_gradient(h: Tensor) -> bool:
    """Whether kernels that have no gradient may compute them as well."""
    return by_kernel(h) and not torch.is_grad_enabled()


class RMSNorm(nn.RMSNorm):
    """Root-mean-square norm over the last dimension, computed in float32 whatever the input's type."""

    def __init__(self, size: int) -> None:
        super().__init__(size, eps=EPS)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Normalised `x`, or `x + bias` without gradient, of the shape and type of `x`."""
        if bias is not None and by_kernel(x):
            return kernels.norm(x, bias, self.weight, EPS)  # type: ignore[no-any-return]
        shifted = x.float() if bias is None else x.float() + bias
        return F.rms_norm(shifted, self.normalized_shape, self.weight.float(), EPS).type_as(x)


def rotary_table(head_size: int, prefix_length: int, max_length: int, theta: float = 10_000.0) -> Tensor:
    """Cosines and sines of the rotary angles, (prefix_length + max_length, 1, head_size / 2, 2).

    Text starts at position 0; the prefix before it has angle 0 and is not rotated.
    """
    frequencies = theta ** (-torch.arange(0, head_size, 2, dtype=torch.float32) / head_size)
    positions = torch.cat([torch.zeros(prefix_length), torch.arange(max_length, dtype=torch.float32)])
    angles = positions[:, None, None] * frequencies
    return torch.stack([angles.cos(), angles.sin()], dim=-1)


def rotate(x: Tensor, rotary: Tensor) -> Tensor:
    """`x` (..., N, heads, head_size), float32, with neighbouring pairs rotated by a `rotary_table`."""
    rotary = rotary.float()
    if not torch.compiler.is_compiling():
        # One kernel instead of six: 6% of a training step on a CPU. The compiler does not support complex
        # numbers.
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2)) * torch.view_as_complex(rotary)
        return torch.view_as_real(pairs).flatten(-2)
    # Without concatenation, which the compiler would compute twice: `x cos + (its neighbour) (-sin or sin)`.
    cos, sin = rotary.repeat_interleave(2, dim=-2).unbind(-1)
    sign = torch.arange(x.shape[-1], device=x.device) % 2 * 2 - 1
    neighbour = x.reshape(*x.shape[:-1], -1, 2).flip(-1).flatten(-2)
    return x * cos + neighbour * (sin * sign)


class Attention(nn.Module):
    """Multi-head self-attention, bidirectional, with normalised and rotated queries and keys."""

    def __init__(self, hidden_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.q_norm = RMSNorm(hidden_size // num_heads)
        self.k_norm = RMSNorm(hidden_size // num_heads)
        self.out = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, rotary: Tensor, mask: Tensor | None) -> Tensor:
        """(B, N, H) -> (B, N, H); `mask` (B, 1, 1, N) is True where attention may go, None for all."""
        return self.dropout(self.out(self.mixed(h, rotary, mask)))  # type: ignore[no-any-return]

    def mixed(self, h: Tensor, rotary: Tensor, mask: Tensor | None) -> Tensor:
        """The values (B, N, H), mixed by attention; arguments as in `forward`."""
        if by_kernel(h) and mask is None and attention_kernel.pays_off(h, self.num_heads):
            short = short_attention_kernel.fits(h)
            if short or not torch.is_grad_enabled():
                qkv = self.qkv(h).unflatten(-1, (3, self.num_heads, -1))
                attend = short_attention_kernel.attend if short else attention_kernel.attention
                mixed: Tensor = attend(qkv, self.q_norm.weight, self.k_norm.weight, rotary.float(), EPS)
                return mixed.flatten(2)
        q, k, v = self._parts_by_kernel(h, rotary) if by_kernel(h) else self._parts(h, rotary)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)

    def _parts(self, h: Tensor, rotary: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, N, heads, head_size)."""
        q, k, v = self.qkv(h).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        q = rotate(self.q_norm(q.float()), rotary).type_as(v)
        k = rotate(self.k_norm(k.float()), rotary).type_as(v)
        return q, k, v

    def _parts_by_kernel(self, h: Tensor, rotary: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same on a GPU. Two products, since the gradient of one would have to be put together first."""
        size, heads = h.shape[-1], (self.num_heads, h.shape[-1] // self.num_heads)
        weight, bias = self.qkv.weight, self.qkv.bias
        queries_keys = F.linear(h, weight[: 2 * size], bias[: 2 * size]).view(*h.shape[:-1], 2, *heads)
        v = F.linear(h, weight[2 * size :], bias[2 * size :]).view(*h.shape[:-1], *heads)
        scales = self.q_norm.weight, self.k_norm.weight
        q, k = kernels.norm_and_rotate(queries_keys, *scales, rotary.float(), EPS)
        return q, k, v


class SwiGLU(nn.Module):
    """Gated feed-forward layer, `out(silu(gate) * value)`, of width `int(mlp_ratio * H * 2/3)`."""

    def __init__(self, hidden_size: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        width = int(hidden_size * mlp_ratio * 2 / 3)
        self.gate_value = nn.Linear(hidden_size, 2 * width)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width, hidden_size)

    def forward(self, h: Tensor) -> Tensor:
        """Hidden states (B, N, H) -> (B, N, H)."""
        return self.out(self.dropout(self.gated(h)))  # type: ignore[no-any-return]

    def gated(self, h: Tensor) -> Tensor:
        """`silu(gate) * value` (B, N, width) of hidden states (B, N, H)."""
        if by_kernel_without_gradient(h) and gate_kernel.pays_off(h, self.out.in_features):
            weight, bias = self.gate_value.weight.type_as(h), self.gate_value.bias
            return gate_kernel.gated_layer(h, weight, bias)  # type: ignore[no-any-return]
        if by_kernel(h):
            product = F.linear(h, self.gate_value.weight)
            return kernels.swiglu(product, self.gate_value.bias)  # type: ignore[no-any-return]
        gate, value = self.gate_value(h).chunk(2, dim=-1)
        return F.silu(gate) * value  # type: ignore[no-any-return]


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: NetworkConfig, dropout: float) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size)
        self.attention = Attention(config.hidden_size, config.num_heads, dropout)
        self.mlp_norm = RMSNorm(config.hidden_size)
        self.mlp = SwiGLU(config.hidden_size, config.mlp_ratio, dropout)

    def forward(self, h: Tensor, rotary: Tensor, mask: Tensor | None) -> Tensor:
        """Hidden states (B, N, H) -> (B, N, H); arguments as in `Attention.forward`."""
        h = h + self.attention(self.attention_norm(h), rotary, mask)
        return h + self.mlp(self.mlp_norm(h))  # type: ignore[no-any-return]

    def fused(
        self, h: Tensor, rotary: Tensor, mask: Tensor | None, product: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """As `forward`, with each sum in one kernel with the norm after it, and without dropout.

        Args:
            h: hidden states (B, N, H).
            rotary: as in `Attention.forward`.
            mask: as in `Attention.forward`.
            product: (B, N, H), still to be added to `h`.
            bias: (H,), to be added with it.

        Returns:
            Hidden states (B, N, H), and the product (B, N, H) to be added to them with the bias of `mlp.out`.
        """
        if product is None:
            normed = self.attention_norm(h)
        else:
            h, normed = kernels.add_norm(h, product, bias, self.attention_norm.weight, EPS)
        product = F.linear(self.attention.mixed(normed, rotary, mask), self.attention.out.weight)
        h, normed = kernels.add_norm(h, product, self.attention.out.bias, self.mlp_norm.weight, EPS)
        return h, F.linear(self.mlp.gated(normed), self.mlp.out.weight)

    def add_to(
        self, h: Tensor, before_attention: Tensor, before_mlp: Tensor, rotary: Tensor, mask: Tensor | None
    ) -> None:
        """Add to hidden states `h` (B, N, H) in place what `forward` adds, but for biases and dropout.

        `before_attention` and `before_mlp` (H,) are the sums of the biases that `h` lacks there.
        """
        mixed = self.attention.mixed(self.attention_norm(h, before_attention), rotary, mask)
        add_product(h, mixed, self.attention.out.weight.type_as(h))
        gated = self.mlp.gated(self.mlp_norm(h, before_mlp))
        add_product(h, gated, self.mlp.out.weight.type_as(h))


def _add_product(h: Tensor, x: Tensor, weight: Tensor) -> None:
    """Add the products of `x` (B, N, K) with `weight` (H, K) to `h` (B, N, H), in one kernel."""
    h.view(-1, h.shape[-1]).addmm_(x.flatten(0, 1), weight.t())


# Not a `custom_op`: its calls take the host three to four times as long, and a GPU waits for them in small
# models.
if not hasattr(torch.ops.elf_lightning, "add_product"):  # a notebook may import this module again
    torch.library.define(
        "elf_lightning::add_product",
        "(Tensor(a!) h, Tensor x, Tensor weight) -> ()",
        tags=torch.Tag.pt2_compliant_tag,
    )
    torch.library.impl("elf_lightning::add_product", "default", _add_product)
add_product = torch.ops.elf_lightning.add_product.default


class Blocks(nn.ModuleList):
    """All blocks in sequence; dropout only in the middle half of them."""

    def __init__(self, config: NetworkConfig) -> None:
        middle = range(config.depth // 4, config.depth // 4 * 3)
        rates = [config.dropout if index in middle else 0.0 for index in range(config.depth)]
        super().__init__(Block(config, dropout) for dropout in rates)
        self.dropout, self.num_heads = config.dropout, config.num_heads
        self.gradient_checkpointing = config.gradient_checkpointing

    def forward(self, prefix: Tensor, text: Tensor, rotary: Tensor, mask: Tensor | None) -> Tensor:
        """Hidden states of the prefix (B, P, H) and of the text (B, S, H) -> those of the text (B, S, H).

        Under bfloat16 autocast, the residual stream is bfloat16 too. `rotary` and `mask` as in
        `Attention.forward`.
        """
        h = torch.cat([prefix, text], dim=1)
        if computes_in_bfloat16(h.device.type):
            h = h.bfloat16()
        if self._adds_in_place(h):
            return self.in_place(h, rotary, mask)[:, prefix.shape[1] :]
        if self._fuses(h):
            return self.fused(h, rotary, mask)[:, prefix.shape[1] :]
        for block in self:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                h = checkpoint(block, h, rotary, mask, use_reentrant=False)
            else:
                h = block(h, rotary, mask)
        return h[:, prefix.shape[1] :]

    def _fuses(self, h: Tensor) -> bool:
        """Whether `fused` is used: with kernels and gradient, without dropout.

        Not with gradient checkpointing, since each block would have to keep two tensors instead of one.
        """
        plain = not (self.training and self.dropout) and not self.gradient_checkpointing
        return by_kernel(h) and torch.is_grad_enabled() and plain

    def fused(self, h: Tensor, rotary: Tensor, mask: Tensor | None) -> Tensor:
        """All blocks on hidden states `h` (B, N, H), with gradient, without dropout or checkpointing.

        Each sum is computed in one kernel with the norm after it: the last one of a block, in the next block.
        Hooks of blocks and of most of their layers do not run.
        """
        blocks: list[Block] = list(self)  # type: ignore[arg-type]
        last: list[Tensor] = []
        for block in blocks:
            h, product = block.fused(h, rotary, mask, *last)
            last = [product, block.mlp.out.bias]
        product, bias = last
        return (product + bias + h).type_as(h)

    def _adds_in_place(self, h: Tensor) -> bool:
        """Whether `in_place` is used: faster, as far as measured; not compiled, with the attention kernel."""
        if not by_kernel_without_gradient(h) or (self.training and self.dropout) or h.dtype != torch.bfloat16:
            return False
        return torch.compiler.is_compiling() or attention_kernel.pays_off(h, self.num_heads)

    def in_place(self, h: Tensor, rotary: Tensor, mask: Tensor | None) -> Tensor:
        """All blocks on hidden states `h` (B, N, H), which they change, without gradient or dropout.

        Matrix products add to the residual stream, which costs less than adding in the next norm. They
        cannot add a bias too, so the biases are summed up apart. Hooks of blocks and of their output layers
        do not run.
        """
        blocks: list[Block] = list(self)  # type: ignore[arg-type]
        biases = [bias for block in blocks for bias in (block.attention.out.bias, block.mlp.out.bias)]
        sums = torch.stack([torch.zeros_like(biases[0]), *biases]).cumsum(0)
        for index, block in enumerate(blocks):
            block.add_to(h, sums[2 * index], sums[2 * index + 1], rotary, mask)
        return (h + sums[-1]).type_as(h)
