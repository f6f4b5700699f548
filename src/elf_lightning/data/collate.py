"""Examples -> padded batch with its masks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from elf_lightning.batch import PromptBatch, TokenBatch, make_loss_mask
from elf_lightning.codec.vocabulary import PadMode
from elf_lightning.data.examples import Example, Ids


@dataclass(frozen=True)
class Collate:
    """Puts condition, target and padding side by side, each cut to the room that there is.

    Args:
        max_length: longest sequence, S.
        fill_id: the id at padding: the pad id, or EOS in pad mode `eos`.
        pad_mode: decides the loss mask.
        max_condition_length: of a condition, in tokens; None for unconditional text.
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
        ends, width = lengths.sum(1, keepdim=True), self.max_length
        if self.width_step is not None:
            width = min(width, max(1, -(-int(ends.max()) // self.width_step)) * self.width_step)
        input_ids = torch.full((len(examples), width), self.fill_id)
        for row, ids in zip(input_ids, map(np.concatenate, parts), strict=True):
            row[: len(ids)] = torch.from_numpy(ids.astype(np.int64))
        position = torch.arange(width)
        attention_mask, condition_mask = position < ends, position < lengths[:, :1]
        return TokenBatch(
            input_ids=input_ids,
            attention_mask=attention_mask,
            condition_mask=condition_mask,
            loss_mask=make_loss_mask(attention_mask, condition_mask, self.pad_mode),
            label_drop=torch.tensor([example.label_drop for example in examples]),
            full=bool((attention_mask & ~condition_mask).all()),
        )

    def prompts(self, examples: Sequence[Example]) -> PromptBatch:
        """The conditions of these examples, (B, S), without their targets."""
        tokens = self([replace(example, input_ids=example.input_ids[:0]) for example in examples])
        index = torch.tensor([example.index for example in examples])
        return PromptBatch(index, tokens.input_ids, tokens.condition_mask)

    def _cut(self, example: Example) -> tuple[Ids, Ids]:
        condition = example.input_ids[:0]
        if example.condition_input_ids is not None:
            condition = example.condition_input_ids[: self.max_condition_length]
        return condition, example.input_ids[: self.max_length - len(condition)]
