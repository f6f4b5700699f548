"""From latents to hidden states, and from those to latents and tokens. All of it stays in float32."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elf_lightning.network.blocks import RMSNorm
from elf_lightning.network.config import NetworkConfig

CHUNK_LOGITS = 2**24  # logits that training and validation hold at a time on a CPU, 64 MiB


def rows_at_once(device: torch.device, vocab_size: int) -> int:
    """Tokens whose logits are held at a time; a GPU needs more of them to be busy (docs/performance.md)."""
    return max(1, (CHUNK_LOGITS if device.type == "cpu" else 4 * CHUNK_LOGITS) // vocab_size)


def full_precision(like: Tensor) -> torch.autocast:
    """A context on the device of `like` without autocast."""
    # Autocast has no meta device, on which FLOPs are counted.
    return torch.autocast("cpu" if like.is_meta else like.device.type, enabled=False)


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
            return self.up(F.linear(x, down, bias))  # type: ignore[no-any-return]


class LatentHead(nn.Module):
    """Hidden states to the estimate of the clean latents, `x_hat`."""

    def __init__(self, hidden_size: int, latent_size: int) -> None:
        super().__init__()
        self.norm = RMSNorm(hidden_size)
        self.linear = nn.Linear(hidden_size, latent_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states (B, S, H) -> `x_hat` (B, S, C) in float32."""
        with full_precision(hidden):
            return self.linear(self.norm(hidden.float()))  # type: ignore[no-any-return]


class TokenHead(nn.Module):
    """Hidden states to one logit for every token of the vocabulary."""

    def __init__(self, hidden_size: int, latent_size: int, vocab_size: int) -> None:
        super().__init__()
        self.project = nn.Linear(hidden_size, latent_size)
        self.unembed = nn.Linear(latent_size, vocab_size)

    def features(self, hidden: Tensor) -> Tensor:
        """Hidden states (B, S, H) -> inputs of `unembed`, (B, S, C) in float32."""
        with full_precision(hidden):
            return F.gelu(self.project(hidden.float()), approximate="tanh")

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states (B, S, H) -> logits (B, S, V) in float32."""
        with full_precision(hidden):
            return self.unembed(self.features(hidden))  # type: ignore[no-any-return]

    def most_likely(self, hidden: Tensor) -> Tensor:
        """Hidden states (B, S, H) -> ids (B, S) of the largest logits, `rows_at_once`."""
        rows = rows_at_once(hidden.device, self.unembed.out_features)
        chunks = torch.split(hidden.flatten(0, 1), rows)
        return torch.cat([self(chunk).argmax(-1) for chunk in chunks]).view(hidden.shape[:2])
