"""Clean latents to tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from elf_lightning.network import ELFNetwork
from elf_lightning.sampling.settings import SamplingSettings

_POSITIONS_AT_ONCE = 256  # logits of a large vocabulary never fill the memory


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


def decode_tokens(
    network: ELFNetwork,
    latents: Tensor,
    settings: SamplingSettings,
    generators: Sequence[torch.Generator],
    closing_ids: Sequence[int] = (),
    open_until: Tensor | None = None,
) -> Tensor:
    """Token ids (B, S) for clean latents (B, S, C), each row with its own generator.

    Args:
        network: the network, in its decoding mode.
        latents: (B, S, C) at t=1.
        settings: temperature, top-k and guidance scale.
        generators: one a row, used if the temperature is above 0.
        closing_ids: the tokens that end a text or stand for none: EOS and padding.
        open_until: (B,) positions before which a row must not have them; None to allow them anywhere.
    """
    gate = latents.new_ones(len(latents))
    hidden = network(latents, gate, gate * settings.guidance, gate, torch.zeros_like(latents))
    rows = []
    for row, generator in enumerate(generators):
        pieces = []
        for start in range(0, hidden.shape[1], _POSITIONS_AT_ONCE):
            logits = network.token_head(hidden[row, start : start + _POSITIONS_AT_ONCE])
            if open_until is not None:
                places = torch.arange(start, start + len(logits), device=logits.device)[:, None]
                closing = logits[:, closing_ids].masked_fill(places < open_until[row], -torch.inf)
                logits[:, closing_ids] = closing
            pieces.append(choose_tokens(logits, settings, generator))
        rows.append(torch.cat(pieces))
    return torch.stack(rows)


def shift_left(tokens: Tensor, lengths: Tensor, pad_id: int) -> Tensor:
    """`tokens` (B, S) without each row's first `lengths` (B,) tokens; padding follows."""
    places = torch.arange(tokens.shape[1], device=tokens.device) + lengths[:, None]
    inside = places < tokens.shape[1]
    shifted = tokens.gather(1, places.clamp(max=tokens.shape[1] - 1))
    return shifted.masked_fill(~inside, pad_id)


def end_at_eos(tokens: Tensor, eos_id: int, pad_id: int) -> Tensor:
    """`tokens` (B, S) with padding from each row's first EOS on."""
    ended = (tokens == eos_id).cumsum(dim=1) > 0
    return tokens.masked_fill(ended, pad_id)
