"""Clean latents to tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from elf_lightning.network import ELFNetwork
from elf_lightning.sampling.settings import SamplingSettings

_MAX_POSITIONS = 256  # at a time, so that the logits of a large vocabulary do not fill the memory


def choose_tokens(logits: Tensor, settings: SamplingSettings, generator: torch.Generator) -> Tensor:
    """Token ids (N,) for logits (N, V): the most likely ones, or draws at a temperature."""
    if settings.temperature == 0:
        return logits.argmax(dim=-1)
    if not settings.top_k:
        probabilities = torch.softmax(logits / settings.temperature, dim=-1)
        return torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)
    best, ids = logits.topk(min(settings.top_k, logits.shape[-1]))
    probabilities = torch.softmax(best / settings.temperature, dim=-1)
    return ids.gather(-1, torch.multinomial(probabilities, 1, generator=generator)).squeeze(-1)


def _logits(network: ELFNetwork, latents: Tensor, guidance: float) -> Iterator[tuple[int, slice, Tensor]]:
    """Number of a sequence, some of its positions, and their logits (P, V); in order."""
    gate = latents.new_ones(len(latents))
    hidden = network(latents, gate, gate * guidance, gate, torch.zeros_like(latents))
    for number, sequence in enumerate(hidden):
        for start in range(0, len(sequence), _MAX_POSITIONS):
            positions = slice(start, min(start + _MAX_POSITIONS, len(sequence)))
            yield number, positions, network.token_head(sequence[positions])


def decode_tokens(
    network: ELFNetwork,
    latents: Tensor,
    settings: SamplingSettings,
    generators: Sequence[torch.Generator],
    closing_ids: Sequence[int] = (),
    open_until: Tensor | None = None,
) -> Tensor:
    """Token ids (B, S) for clean latents (B, S, C), each sequence with its own generator.

    Args:
        network: the network, in its decoding mode.
        latents: (B, S, C) at t=1.
        settings: temperature, top-k and guidance scale.
        generators: one for each sequence, used if the temperature is above 0.
        closing_ids: the tokens that end or pad a text.
        open_until: (B,) the position before which a sequence must not have them; None to allow them anywhere.
    """
    tokens = torch.empty(latents.shape[:2], dtype=torch.int64, device=latents.device)
    for number, positions, logits in _logits(network, latents, settings.guidance):
        if open_until is not None:
            places = torch.arange(positions.start, positions.stop, device=logits.device)[:, None]
            closing = logits[:, closing_ids].masked_fill(places < open_until[number], -torch.inf)
            logits[:, closing_ids] = closing
        tokens[number, positions] = choose_tokens(logits, settings, generators[number])
    return tokens


def most_likely(network: ELFNetwork, latents: Tensor, guidance: float) -> tuple[Tensor, Tensor]:
    """The most likely token and the margin of its logit over the next, (B, S) each, for latents (B, S, C)."""
    best = [logits.topk(2) for _, _, logits in _logits(network, latents, guidance)]
    values, ids = (torch.cat(column).view(*latents.shape[:2], 2) for column in zip(*best, strict=True))
    return ids[..., 0], values[..., 0] - values[..., 1]


def shift_left(tokens: Tensor, lengths: Tensor, pad_id: int) -> Tensor:
    """`tokens` (B, S) without the first `lengths` (B,) tokens of each sequence; padding follows."""
    places = torch.arange(tokens.shape[1], device=tokens.device) + lengths[:, None]
    inside = places < tokens.shape[1]
    shifted = tokens.gather(1, places.clamp(max=tokens.shape[1] - 1))
    return shifted.masked_fill(~inside, pad_id)


def end_at_eos(tokens: Tensor, eos_id: int, pad_id: int) -> Tensor:
    """`tokens` (B, S) with padding from the first EOS of each sequence on."""
    ended = (tokens == eos_id).cumsum(dim=1) > 0
    return tokens.masked_fill(ended, pad_id)
