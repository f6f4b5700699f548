"""The network of ELF, denoiser and decoder in one (arXiv 2605.10938, section 3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from elf_lightning.errors import UserError
from elf_lightning.network.attention import rotary_table
from elf_lightning.network.blocks import Blocks
from elf_lightning.network.compiling import room_for_graphs
from elf_lightning.network.conditioning import Prefix
from elf_lightning.network.config import NetworkConfig
from elf_lightning.network.heads import LatentHead, TokenHead
from elf_lightning.network.initialization import initialize
from elf_lightning.network.layers import full_precision


class LatentProjection(nn.Module):
    """Latents to hidden states through a bottleneck, after merging in the self-conditioning input."""

    def __init__(self, latent_size: int, config: NetworkConfig) -> None:
        super().__init__()
        self.merge_self_cond = nn.Linear(2 * latent_size, latent_size) if config.self_conditioning else None
        self.down = nn.Linear(latent_size, config.bottleneck_size, bias=False)
        self.up = nn.Linear(config.bottleneck_size, config.hidden_size)

    def forward(self, z: Tensor, self_cond: Tensor | None) -> Tensor:
        """Noised latents and, if given, an earlier estimate, (B, S, C) each -> (B, S, H) in float32."""
        with full_precision(z):
            x, down, bias = z.float(), self.down.weight, None
            if self.merge_self_cond is not None and self_cond is not None:
                x = torch.cat([x, self_cond.float()], dim=-1)
                # Both layers are linear: their product, computed once per call, takes far fewer FLOPs.
                down, bias = down @ self.merge_self_cond.weight, down @ self.merge_self_cond.bias
            return self.up(nn.functional.linear(x, down, bias))  # type: ignore[no-any-return]


class ELFNetwork(nn.Module):
    """A bidirectional transformer over noised latents; `forward` returns hidden states for the heads.

    Args:
        config: width, depth and so on; `PRESETS` has the published ones.
        latent_size: C, size of the encoder's latents.
        vocab_size: V, number of tokens that the token head distinguishes.
        max_length: largest number of text positions S; shorter sequences work too.
        generator: source of the initial values; torch's global generator by default.

    Raises:
        UserError: for sizes that are not positive.
    """

    rotary: Tensor

    def __init__(
        self,
        config: NetworkConfig,
        latent_size: int,
        vocab_size: int,
        max_length: int,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        for name, size in {
            "latent_size": latent_size,
            "vocab_size": vocab_size,
            "max_length": max_length,
        }.items():
            if size < 1:
                raise UserError(f"{name} is {size}; it must be at least 1")
        self.config = config
        self.latent_size = latent_size
        self.vocab_size = vocab_size
        self.max_length = max_length

        self.latent_in = LatentProjection(latent_size, config)
        self.prefix = Prefix(
            config.hidden_size, config.num_time_tokens, config.num_guidance_tokens, config.num_mode_tokens
        )
        self.blocks = Blocks(config)
        self.latent_head = LatentHead(config.hidden_size, latent_size)
        self.token_head = TokenHead(config.hidden_size, latent_size, vocab_size)
        self.register_buffer(
            "rotary",
            rotary_table(config.hidden_size // config.num_heads, self.prefix.length, max_length),
            persistent=False,
        )
        initialize(self, generator)

    def forward(
        self,
        z: Tensor,
        t: Tensor,
        guidance: Tensor,
        decode_gate: Tensor,
        self_cond: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Hidden states of the text positions.

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

        Raises:
            UserError: for sequences longer than `max_length`.
        """
        return self.hidden(self.prefix(t, guidance, decode_gate), z, self_cond, attention_mask)

    def hidden(
        self, prefix: Tensor, z: Tensor, self_cond: Tensor | None = None, attention_mask: Tensor | None = None
    ) -> Tensor:
        """As `forward`, with the prefix already computed.

        Args:
            prefix: (B, P, H) tokens of `self.prefix`, or (1, P, H) for all sequences.
            z: (B, S, C), as in `forward`.
            self_cond: (B, S, C) or None, as in `forward`.
            attention_mask: (B, S) or None, as in `forward`.

        Raises:
            UserError: for sequences longer than `max_length`.
        """
        if z.shape[1] > self.max_length:
            raise UserError(
                f"sequences have {z.shape[1]} positions, more than the network's max_length "
                f"{self.max_length}; cut them, or build the network with a larger max_length"
            )
        length = self.prefix.length
        h = torch.cat([prefix.expand(len(z), -1, -1), self.latent_in(z, self_cond)], dim=1)
        rotary = self.rotary[: h.shape[1]]
        mask = None
        if attention_mask is not None:
            mask = nn.functional.pad(attention_mask.bool(), (length, 0), value=True)[:, None, None]
        return self.blocks(h, rotary, mask)[:, length:]  # type: ignore[no-any-return]

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the blocks in place; state-dict keys stay, and copies are not compiled.

        The blocks get one contiguous tensor whatever the slice of the batch, so that batch sizes share a
        graph. Arguments as in `torch.compile`.
        """
        self.blocks.compile(*args, **room_for_graphs() | kwargs)

    def denoise(
        self, z: Tensor, t: Tensor, guidance: Tensor, self_cond: Tensor, attention_mask: Tensor | None = None
    ) -> Tensor:
        """Estimate of the clean latents, `x_hat` (B, S, C); arguments as in `forward`."""
        hidden = self(z, t, guidance, torch.zeros_like(t), self_cond, attention_mask)
        return self.latent_head(hidden)  # type: ignore[no-any-return]

    def decode_tokens(self, z: Tensor, guidance: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """The most likely tokens (B, S) of latents (B, S, C) at t=1, without self-conditioning."""
        ones = torch.ones_like(guidance)
        hidden = self(z, ones, guidance, ones, torch.zeros_like(z), attention_mask)
        return self.token_head.most_likely(hidden)
