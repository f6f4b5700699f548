"""Batches of sequences: token ids and masks, with or without their latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class _TensorRecord:
    """A frozen record of tensors that is moved as a whole."""

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """The same record with `function` applied to every tensor."""
        return replace(
            self, **{name: function(one) for name, one in vars(self).items() if isinstance(one, Tensor)}
        )

    def to(self, device: torch.device | str, non_blocking: bool | None = None) -> Self:
        """The record on `device`; called by the transfer hooks of Lightning and torch.

        Copies to a GPU are asynchronous by default, which Lightning asks for only with bare tensors.
        """
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
        full: True if there is known to be neither condition nor padding, so that encoders need no mask.
    """

    input_ids: Tensor
    attention_mask: Tensor
    condition_mask: Tensor
    loss_mask: Tensor
    label_drop: Tensor
    full: bool = field(default=False, kw_only=True)

    def __len__(self) -> int:
        return self.input_ids.shape[0]


@dataclass(frozen=True)
class LatentBatch(TokenBatch):
    """A token batch with its clean, normalised latents `x`.

    Attributes:
        latents: (B, S, C) float32, `(encoder(ids) - latent_mean) / latent_std`. Condition positions of
            label-dropped sequences are zeroed later, by the objective.
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

    def __len__(self) -> int:
        return self.index.shape[0]


@dataclass(frozen=True)
class LatentPromptBatch(PromptBatch):
    """A prompt batch with the latents of its condition.

    Attributes:
        latents: (B, S, C) float32, the condition's normalised latents, 0 at all other positions.
    """

    latents: Tensor


def make_loss_mask(attention_mask: Tensor, condition_mask: Tensor, pad_mode: Literal["pad", "eos"]) -> Tensor:
    """The loss mask, boolean (B, S); never True at condition positions.

    Args:
        attention_mask: (B, S) boolean, False at padding.
        condition_mask: (B, S) boolean, True at condition positions.
        pad_mode: `pad` leaves out padding; `eos` (sequences padded with EOS) counts every position, so that
            the model learns to end.
    """
    return ~condition_mask if pad_mode == "eos" else attention_mask & ~condition_mask
