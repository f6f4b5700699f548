"""Real text, in the form that generated text has, to measure a model against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from elf_lightning.data import ELFDataModule
from elf_lightning.data.rows import Ids
from elf_lightning.flow import seeded_generator


@dataclass(frozen=True)
class ReferenceTexts:
    """The validation rows as texts, through the model's tokenizer and up to their first EOS.

    A generated text ends at its first EOS and has been through the tokenizer too (an uncased one loses the
    capitals): so it is compared with what it could be at best. Pieces outside a restricted vocabulary stay.

    Attributes:
        data: whose rows they are.
    """

    data: ELFDataModule

    def __len__(self) -> int:
        return len(self.data.preparation.rows("validation"))

    def targets(self, indices: Sequence[int]) -> list[str]:
        """The texts of these rows; in text-to-text tasks the references."""
        rows = self.data.preparation.rows("validation").read(indices)
        return self._texts([row.input_ids for row in rows])

    def conditions(self, indices: Sequence[int]) -> list[str]:
        """What the references answer; empty for unconditional text."""
        rows = self.data.preparation.rows("validation").read(indices)
        ids = [row.condition_input_ids for row in rows]
        return self._texts([condition for condition in ids if condition is not None])

    def drawn(self, groups: int, size: int) -> list[list[str]]:
        """At most `groups` disjoint sets of `size` texts, drawn once and for all; one, if small, at least."""
        order = torch.randperm(len(self), generator=seeded_generator("validation text")).tolist()
        full = max(1, min(groups, len(order) // size))
        return [self.targets(order[group * size : (group + 1) * size]) for group in range(full)]

    def _texts(self, rows: Sequence[Ids]) -> list[str]:
        eos = self.data.special.eos
        ended = [row.tolist() for row in rows]
        texts = [ids[: ids.index(eos)] if eos in ids else ids for ids in ended]
        return list(self.data.tokenizer.batch_decode(texts)) if texts else []


def shuffled(texts: Sequence[str]) -> list[str]:
    """Each text with its words in another order: the same words, but no language."""
    mixed = []
    for number, text in enumerate(texts):
        words = text.split()
        order = torch.randperm(len(words), generator=seeded_generator("shuffled words", number))
        mixed.append(" ".join(words[place] for place in order.tolist()))
    return mixed
