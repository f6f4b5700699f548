"""Batches of sequences: token ids and masks, with or without their latents."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class _TensorRecord:
    """A frozen record of tensors of B sequences that is moved as a whole."""

    def __len__(self) -> int:
        return len(next(iter(vars(self).values())))

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """The same record with `function` applied to every tensor."""
        changed = {name: function(one) for name, one in vars(self).items() if isinstance(one, Tensor)}
        return replace(self, **changed)

    def to(self, device: torch.device | str, non_blocking: bool | None = None) -> Self:
        """The record on `device`; copies to a GPU do not wait, which Lightning asks of bare tensors only."""
        if non_blocking is None:
            non_blocking = torch.device(device).type == "cuda"
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """The record in page-locked memory, for asynchronous copies to a GPU."""
        return self.map(lambda tensor: tensor.pin_memory())


@dataclass(frozen=True)
class TokenBatch(_TensorRecord):
    """B sequences of S token ids with boolean masks, as the collator makes them.

    Attributes:
        input_ids: (B, S) int64. Condition first, then target, then padding.
        attention_mask: (B, S), True at tokens of condition and target, False at padding.
        condition_mask: (B, S), True at condition positions; all False for unconditional text.
        loss_mask: (B, S), True at tokens that count in the losses (see `make_loss_mask`).
        label_drop: (B,), True where the condition is hidden from the target and zeroed in the latents.
        unconditional: True if there is known to be no condition; looking at the mask would wait for a device.
        full: True if there is known to be neither condition nor padding, so that encoders need no mask.
    """

    input_ids: Tensor
    attention_mask: Tensor
    condition_mask: Tensor
    loss_mask: Tensor
    label_drop: Tensor
    unconditional: bool = field(default=False, kw_only=True)
    full: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class LatentBatch(TokenBatch):
    """A token batch with its clean, normalised latents `x`, (B, S, C) float32.

    Condition positions of label-dropped sequences are zeroed later, by the objective.
    """

    latents: Tensor


@dataclass(frozen=True)
class PromptBatch(_TensorRecord):
    """Sequences to generate: their numbers and their conditions, which are empty for unconditional text.

    Attributes:
        index: (B,) int64, numbers in the whole request; noise is drawn from (seed, index).
        input_ids: (B, S) int64, condition ids, padding elsewhere.
        condition_mask: (B, S), True at condition positions.
    """

    index: Tensor
    input_ids: Tensor
    condition_mask: Tensor


@dataclass(frozen=True)
class LatentPromptBatch(PromptBatch):
    """A prompt batch with its condition's normalised latents, (B, S, C) float32, 0 at other positions."""

    latents: Tensor


def make_loss_mask(attention_mask: Tensor, condition_mask: Tensor, pad_mode: Literal["pad", "eos"]) -> Tensor:
    """The loss mask of these masks, boolean (B, S) all; never True at condition positions.

    `pad` leaves out padding; `eos` (sequences padded with EOS) counts it, so that the model learns to end.
    """
    return ~condition_mask if pad_mode == "eos" else attention_mask & ~condition_mask
