"""Clean latents to tokens, and the early exit of sequences whose tokens are final."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from elf_lightning.codec.word_pieces import KnownWords
from elf_lightning.network import ELFNetwork
from elf_lightning.sampling.settings import SamplingSettings

_CANDIDATES = 64  # tokens of a position among which known words are found
_MAX_POSITIONS = 256  # at a time, so that the logits of a large vocabulary do not fill the memory


def choose_tokens(logits: Tensor, settings: SamplingSettings, generator: torch.Generator) -> Tensor:
    """Token ids (N,) for logits (N, V): the most likely ones, or draws at a temperature."""
    if settings.temperature == 0:
        return logits.argmax(dim=-1)
    ids = None
    if settings.top_k:
        logits, ids = logits.topk(min(settings.top_k, logits.shape[-1]))
    drawn = torch.multinomial(torch.softmax(logits / settings.temperature, dim=-1), 1, generator=generator)
    return (drawn if ids is None else ids.gather(-1, drawn)).squeeze(-1)


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
    words: KnownWords | None = None,
) -> Tensor:
    """Token ids (B, S) for clean latents (B, S, C), each sequence with its own generator.

    Before its position in `open_until` (B,), a sequence has none of the `closing_ids`, which end or pad text.
    With `words`, all words are known.
    """
    if settings.temperature == 0 and open_until is None and words is None:
        return network.decode_tokens(latents, latents.new_full(latents.shape[:1], settings.guidance))
    tokens = torch.empty(latents.shape[:2], dtype=torch.int64, device=latents.device)
    candidates: list[list[tuple[Tensor, Tensor]]] = [[] for _ in latents]
    for number, positions, logits in _logits(network, latents, settings.guidance):
        if open_until is not None:
            places = torch.arange(positions.start, positions.stop, device=logits.device)[:, None]
            closing = logits[:, closing_ids].masked_fill(places < open_until[number], -torch.inf)
            logits[:, closing_ids] = closing
        if words is None:
            tokens[number, positions] = choose_tokens(logits, settings, generators[number])
        else:
            candidates[number].append(logits.topk(min(_CANDIDATES, logits.shape[-1])))
    if words is not None:
        for number, parts in enumerate(candidates):
            scores, ids = (torch.cat(column) for column in zip(*parts, strict=True))
            tokens[number] = torch.tensor(words.most_likely(scores, ids))
    return tokens


def most_likely(network: ELFNetwork, latents: Tensor, guidance: float) -> tuple[Tensor, Tensor]:
    """The most likely token and the margin of its logit over the next, (B, S) each, for latents (B, S, C)."""
    best = [logits.topk(2) for _, _, logits in _logits(network, latents, guidance)]
    values, ids = (torch.cat(column).view(*latents.shape[:2], 2) for column in zip(*best, strict=True))
    return ids[..., 0], values[..., 0] - values[..., 1]


def certainty(
    network: ELFNetwork, latents: Tensor, guidance: float, tokens: Tensor, counted: Tensor
) -> Tensor:
    """Mean log-probability (B,) of `tokens` (B, S) where `counted`, for noised latents (B, S, C).

    It is minus infinity where none is counted, as for a text that has not begun.
    """
    sums = latents.new_zeros(len(latents))
    for number, positions, logits in _logits(network, latents, guidance):
        chosen = logits.log_softmax(dim=-1).gather(1, tokens[number, positions, None])[:, 0]
        sums[number] += chosen[counted[number, positions]].sum()
    return (sums / counted.sum(dim=1)).masked_fill(~counted.any(dim=1), -torch.inf)


def shift_left(tokens: Tensor, lengths: Tensor, pad_id: int) -> Tensor:
    """`tokens` (B, S) without the first `lengths` (B,) tokens of each sequence; padding follows."""
    size = tokens.shape[1]
    places = torch.arange(size, device=tokens.device) + lengths[:, None]
    return tokens.gather(1, places.clamp(max=size - 1)).masked_fill(places >= size, pad_id)


def end_at_eos(tokens: Tensor, eos_id: int, pad_id: int) -> Tensor:
    """`tokens` (B, S) with padding from the first EOS of each sequence on."""
    return tokens.masked_fill((tokens == eos_id).cumsum(dim=1) > 0, pad_id)


def until_eos(tokens: Tensor, eos_id: int | None, may_end: Tensor) -> Tensor:
    """(B, S), True up to and including the first EOS in `tokens` (B, S) where a text `may_end` (B, S)."""
    if eos_id is None:
        return torch.ones_like(may_end)
    is_eos = (tokens == eos_id) & may_end
    return is_eos.cumsum(dim=1) - is_eos.long() == 0


class EarlyExit:
    """Ends each sequence on its own, at its estimate `x_hat`, as an Euler step to t=1 would.

    A check decodes `x_hat` at t=1. A token is final if it is that of the check before and its
    logit exceeds the second largest by more than `early_exit_margin`. A sequence ends once at least
    `early_exit_fraction` of its positions in `generated` (B, S), up to its first EOS, are final. Checks
    follow every eighth of the steps in their second half. Each is a network call for the sequences that still
    run; those that have ended cost nothing more. The host waits for the device at each call.

    Attributes:
        running: (B,) boolean, False for sequences that have ended; changed in place.
    """

    def __init__(
        self, network: ELFNetwork, settings: SamplingSettings, generated: Tensor, eos_id: int | None
    ) -> None:
        self.network, self.settings = network, settings
        self.generated, self.eos_id = generated, eos_id
        self.running = torch.ones_like(generated[:, 0])
        self._tokens = torch.full(generated.shape, -1, device=generated.device)

    def due(self, number: int) -> bool:
        """Whether to check after step `number`."""
        done, steps = number + 1, self.settings.num_steps
        return steps <= 2 * done < 2 * steps and done % max(1, steps // 8) == 0

    def check(self, x_hat: Tensor) -> bool:
        """End sequences whose tokens are final by the last estimate (B, S, C); True once all have ended."""
        running = self.running.nonzero().squeeze(1)
        tokens, margins = most_likely(self.network, x_hat[running], self.settings.guidance)
        generated = self.generated[running]
        counted = generated & until_eos(tokens, self.eos_id, generated)
        final = (tokens == self._tokens[running]) & (margins > self.settings.early_exit_margin) & counted
        ended = final.sum(dim=1) >= self.settings.early_exit_fraction * counted.sum(dim=1)
        self._tokens[running] = tokens
        self.running[running] = ~ended
        return bool(ended.all())
