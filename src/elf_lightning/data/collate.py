"""Examples -> padded batch with its masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from elf_lightning.batch import PromptBatch, TokenBatch, make_loss_mask
from elf_lightning.codec.vocabulary import PadMode
from elf_lightning.data.examples import Example, Ids


@dataclass(frozen=True)
class Collate:
    """Puts condition, target and padding side by side.

    Args:
        max_length: longest sequence; the target is cut to the room that the condition leaves.
        fill_id: the id at padding: the pad id, or EOS in pad mode `eos`.
        pad_mode: decides the loss mask.
        max_condition_length: the condition is cut to this many tokens; None for unconditional text.
        width_step: make a batch as wide as its longest sequence, rounded up to a multiple of this; None
            makes every batch `max_length` wide.
    """

    max_length: int
    fill_id: int
    pad_mode: PadMode = "pad"
    max_condition_length: int | None = None
    width_step: int | None = None

    def __call__(self, examples: Sequence[Example]) -> TokenBatch:
        """The batch of these examples, (B, S)."""
        parts = [self._cut(example) for example in examples]
        lengths = torch.tensor([[len(condition), len(target)] for condition, target in parts])
        width = self._width(int(lengths.sum(1).max()))
        input_ids = torch.full((len(examples), width), self.fill_id)
        for ids, (condition, target) in zip(input_ids, parts, strict=True):
            ids[: len(condition)] = condition
            ids[len(condition) : len(condition) + len(target)] = target
        position = torch.arange(width)
        attention_mask = position < lengths.sum(1, keepdim=True)
        condition_mask = position < lengths[:, :1]
        return TokenBatch(
            input_ids=input_ids,
            attention_mask=attention_mask,
            condition_mask=condition_mask,
            loss_mask=make_loss_mask(attention_mask, condition_mask, self.pad_mode),
            label_drop=torch.tensor([example.label_drop for example in examples]),
        )

    def prompts(self, examples: Sequence[Example]) -> PromptBatch:
        """The conditions of these examples, (B, S), without their targets."""
        tokens = self([replace(example, input_ids=example.input_ids[:0]) for example in examples])
        index = torch.tensor([example.index for example in examples])
        return PromptBatch(index, tokens.input_ids, tokens.condition_mask)

    def _width(self, longest: int) -> int:
        if self.width_step is None:
            return self.max_length
        return min(self.max_length, max(1, -(-longest // self.width_step)) * self.width_step)

    def _cut(self, example: Example) -> tuple[Tensor, Tensor]:
        condition = _tensor(example.condition_input_ids)[: self.max_condition_length]
        return condition, _tensor(example.input_ids)[: self.max_length - len(condition)]


def _tensor(ids: Ids | None) -> Tensor:
    return torch.empty(0, dtype=torch.int64) if ids is None else torch.as_tensor(ids.astype("int64"))
