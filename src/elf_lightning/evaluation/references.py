"""Real text, in the form that generated text has, to compare a model with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from elf_lightning.data import ELFDataModule
from elf_lightning.data.examples import Ids
from elf_lightning.flow import seeded_generator
from elf_lightning.generation import Request, requests_from_data


@dataclass(frozen=True)
class ReferenceTexts:
    """The validation examples as texts, through the model's tokenizer and up to their first EOS.

    A generated text ends at its first EOS and has passed through the tokenizer too (an uncased one loses
    the capitals), so it is compared with the best it could be. Tokens outside a restricted vocabulary stay.

    Attributes:
        data: supplies the examples.
    """

    data: ELFDataModule

    def __len__(self) -> int:
        return len(self.data.preparation.examples("validation"))

    @property
    def key(self) -> str:
        """Changes with the examples."""
        return self.data.preparation.key

    def requests(self, indices: Sequence[int]) -> list[Request]:
        """Requests to answer the conditions of these examples."""
        return requests_from_data(self.data, indices)

    def targets(self, indices: Sequence[int]) -> list[str]:
        """The texts of these examples; in text-to-text tasks the references."""
        examples = self.data.preparation.examples("validation").read(indices)
        return self._texts([example.input_ids for example in examples])

    def conditions(self, indices: Sequence[int]) -> list[str]:
        """What the references answer; empty for unconditional text."""
        examples = self.data.preparation.examples("validation").read(indices)
        ids = [example.condition_input_ids for example in examples]
        return self._texts([condition for condition in ids if condition is not None])

    def drawn(self, groups: int, size: int) -> list[list[str]]:
        """At most `groups` disjoint sets of `size` texts, always the same; at least one, if a smaller one."""
        order = torch.randperm(len(self), generator=seeded_generator("held-out text")).tolist()
        full = max(1, min(groups, len(order) // size))
        return [self.targets(order[group * size : (group + 1) * size]) for group in range(full)]

    def _texts(self, examples: Sequence[Ids]) -> list[str]:
        eos = self.data.special.eos
        ended = [ids.tolist() for ids in examples]
        texts = [ids[: ids.index(eos)] if eos in ids else ids for ids in ended]
        return list(self.data.tokenizer.batch_decode(texts)) if texts else []


def shuffled(texts: Sequence[str]) -> list[str]:
    """Each text with its words in random order."""
    mixed = []
    for number, text in enumerate(texts):
        words = text.split()
        order = torch.randperm(len(words), generator=seeded_generator("shuffled words", number))
        mixed.append(" ".join(words[place] for place in order.tolist()))
    return mixed
