"""The network of ELF, denoiser and decoder in one (arXiv 2605.10938, section 3)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from elf_lightning.compiling import room_for_graphs
from elf_lightning.errors import UserError
from elf_lightning.network.blocks import Blocks, rotary_table
from elf_lightning.network.conditioning import ModeTokens, Prefix, ScalarEmbedding, ScalarTokens
from elf_lightning.network.config import NetworkConfig
from elf_lightning.network.projections import LatentHead, LatentProjection, TokenHead

EMBEDDING_STD = 0.02
LONGEST = 65_536  # maximum `max_length`; a description with more is damaged, and would take all memory


class ELFNetwork(nn.Module):
    """A bidirectional transformer over noised latents; `forward` returns hidden states for the heads.

    Sizes that are not positive, or a `max_length` beyond all memory, are a `UserError`.

    Args:
        config: width, depth and so on; `PRESETS` has the published ones.
        latent_size: C, size of the encoder's latents.
        vocab_size: V, number of tokens that the token head distinguishes.
        max_length: largest number of text positions S; shorter sequences work too.
        generator: source of the initial values; torch's global generator by default.

    Attributes:
        cuda_graphs: in training mode, replay compiled passes as CUDA graphs, so that the host launches one
            graph instead of hundreds of kernels. Each number of sequences is recorded once. Needs a GPU.
            Gradients, and hidden states with gradient, are then valid until the first pass after their
            backward pass, which overwrites their memory.
    """

    rotary: Tensor
    cuda_graphs = False
    _replayed: Callable[..., Tensor] | None = None

    def __init__(
        self,
        config: NetworkConfig,
        latent_size: int,
        vocab_size: int,
        max_length: int,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        sizes = {"latent_size": latent_size, "vocab_size": vocab_size, "max_length": max_length}
        for name, size in sizes.items():
            if size < 1:
                raise UserError(f"{name} is {size}; it must be at least 1")
        if max_length > LONGEST:
            raise UserError(f"max_length is {max_length}; it must be at most {LONGEST}")
        self.config = config
        self.latent_size, self.vocab_size, self.max_length = latent_size, vocab_size, max_length
        self.latent_in = LatentProjection(latent_size, config)
        self.prefix = Prefix(config)
        self.blocks = Blocks(config)
        self.latent_head = LatentHead(config.hidden_size, latent_size)
        self.token_head = TokenHead(config.hidden_size, latent_size, vocab_size)
        rotary = rotary_table(config.hidden_size // config.num_heads, self.prefix.length, max_length)
        self.register_buffer("rotary", rotary, persistent=False)
        self._initialize(generator)

    def _initialize(self, generator: torch.Generator | None) -> None:
        """Initial values of the official code, with which the first `x_hat` is zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, ScalarTokens | ModeTokens):
                nn.init.normal_(module.tokens, std=EMBEDDING_STD, generator=generator)
            elif isinstance(module, ScalarEmbedding):
                nn.init.normal_(module.expand.weight, std=EMBEDDING_STD, generator=generator)
                nn.init.normal_(module.out.weight, std=EMBEDDING_STD, generator=generator)
        nn.init.zeros_(self.latent_head.linear.weight)

    def forward(
        self,
        z: Tensor,
        t: Tensor,
        guidance: Tensor,
        decode_gate: Tensor,
        self_cond: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Hidden states of the text positions; sequences longer than `max_length` are a `UserError`.

        Args:
            z: (B, S, C) noised latents, `S <= max_length`.
            t: (B,) times, 0 noise and 1 data.
            guidance: (B,) self-conditioning guidance scales `w`.
            decode_gate: (B,) 0 for sequences to denoise, 1 for sequences to decode.
            self_cond: (B, S, C) an earlier `x_hat`, or zeros; None bypasses the merging layer, as in a
                network built without self-conditioning.
            attention_mask: (B, S), nonzero at positions that may be attended to; None for all, padding
                included, as in training and sampling.

        Returns:
            (B, S, H), the input of `latent_head` and `token_head`.
        """
        return self.hidden(self.prefix(t, guidance, decode_gate), z, self_cond, attention_mask)

    def hidden(
        self, prefix: Tensor, z: Tensor, self_cond: Tensor | None = None, attention_mask: Tensor | None = None
    ) -> Tensor:
        """As `forward`, from tokens of `self.prefix`: (B, P, H), or (1, P, H) for all sequences."""
        if z.shape[1] > self.max_length:
            raise UserError(
                f"sequences have {z.shape[1]} positions, more than the network's max_length "
                f"{self.max_length}; cut them, or build the network with a larger max_length"
            )
        text, prefix = self.latent_in(z, self_cond), prefix.expand(len(z), -1, -1)
        if self.compiled and not torch.is_grad_enabled() and not torch.compiler.is_compiling():
            # How many sequences self-condition differs by step: one graph for any number, from the start.
            prefix = prefix.contiguous()
            for part in (prefix, text):
                torch._dynamo.maybe_mark_dynamic(part, 0)
        length, mask = self.prefix.length, None
        if attention_mask is not None:
            mask = nn.functional.pad(attention_mask.bool(), (length, 0), value=True)[:, None, None]
        rotary = self.rotary[: length + z.shape[1]]
        if self._replayed is None or not (self.cuda_graphs and self.training):
            return self.blocks(prefix, text, rotary, mask)  # type: ignore[no-any-return]
        hidden = self._replayed(prefix, text, rotary, mask)
        # With gradient, a graph's result lasts until the backward pass; otherwise until the next pass.
        return hidden if hidden.requires_grad else hidden.clone()

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the blocks in place; state-dict keys stay, and copies are not compiled.

        The blocks get contiguous tensors whatever the slice of the batch, if without gradient, so that batch
        sizes share a graph. Arguments as in `torch.compile`. Without `backend` and `mode`, training can use
        `cuda_graphs`; if `options` are not given either, small GPU kernels are combined.
        """
        settings, self._replayed = room_for_graphs() | kwargs, None
        if not {"backend", "mode"} & kwargs.keys():
            options = settings.setdefault("options", {"combo_kernels": True}) or {}
            graphs = settings | {"options": {"triton.cudagraphs": True} | options}
            self._replayed = torch.compile(self.blocks._call_impl, *args, **graphs)
        self.blocks.compile(*args, **settings)

    def __getstate__(self) -> dict[str, Any]:
        """Without compiled code, as in `nn.Module`, and so without CUDA graphs."""
        return {**super().__getstate__(), "_replayed": None, "cuda_graphs": False}  # type: ignore[no-untyped-call]

    @property
    def compiled(self) -> bool:
        """Whether `compile` was called."""
        return self.blocks._compiled_call_impl is not None

    def denoise(
        self, z: Tensor, t: Tensor, guidance: Tensor, self_cond: Tensor, attention_mask: Tensor | None = None
    ) -> Tensor:
        """Estimate of the clean latents, `x_hat` (B, S, C); arguments as in `forward`."""
        return self.estimate(self.prefix(t, guidance, torch.zeros_like(t)), z, self_cond, attention_mask)

    def estimate(
        self, prefix: Tensor, z: Tensor, self_cond: Tensor, attention_mask: Tensor | None = None
    ) -> Tensor:
        """As `denoise`, from tokens of `self.prefix` with a gate of 0; arguments as in `hidden`."""
        return self.latent_head(self.hidden(prefix, z, self_cond, attention_mask))  # type: ignore[no-any-return]

    def decode_tokens(self, z: Tensor, guidance: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """The most likely tokens (B, S) of latents (B, S, C) at t=1, without self-conditioning."""
        ones = torch.ones_like(guidance)
        hidden = self(z, ones, guidance, ones, torch.zeros_like(z), attention_mask)
        return self.token_head.most_likely(hidden)
