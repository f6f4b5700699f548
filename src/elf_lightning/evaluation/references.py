"""Real text in the form of generated text, for comparison."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from elf_lightning.codec.word_pieces import decoded, piece_prefix
from elf_lightning.data import ELFDataModule
from elf_lightning.data.examples import Example, Ids
from elf_lightning.flow import seeded_generator


@dataclass(frozen=True)
class ReferenceTexts:
    """The validation examples of `data`, decoded by the model's tokenizer up to the EOS that ends them.

    So they are what a perfect model could produce, but for tokens outside a restricted vocabulary.
    """

    data: ELFDataModule

    def __len__(self) -> int:
        return len(self.data.preparation.examples("validation"))

    @property
    def key(self) -> str:
        """Identifies the examples, and how they are written."""
        as_printed = "" if piece_prefix(self.data.tokenizer) is None else ", as printed"
        return self.data.preparation.key + as_printed

    def targets(self, indices: Sequence[int]) -> list[str]:
        """The target texts of these examples."""
        return self._texts([example.input_ids for example in self.examples(indices)])

    def conditions(self, indices: Sequence[int]) -> list[str]:
        """The condition texts of these examples; empty for unconditional text."""
        ids = [example.condition_input_ids for example in self.examples(indices)]
        return self._texts([condition for condition in ids if condition is not None])

    def drawn(self, groups: int, size: int) -> list[list[str]]:
        """At most `groups` disjoint sets of `size` texts, always the same; one smaller set if necessary."""
        return [self.targets(indices) for indices in self.drawn_indices(groups, size)]

    def drawn_indices(self, groups: int, size: int) -> list[list[int]]:
        """The examples' indices in `drawn`."""
        # The words are part of the seed: others would change the numbers of earlier runs.
        order = torch.randperm(len(self), generator=seeded_generator("held-out text")).tolist()
        full = max(1, min(groups, len(order) // size))
        return [order[group * size : (group + 1) * size] for group in range(full)]

    def examples(self, indices: Sequence[int]) -> list[Example]:
        """The examples with these indices, in the tokenizer's ids."""
        return self.data.preparation.examples("validation").read(indices)

    def _texts(self, examples: Sequence[Ids]) -> list[str]:
        eos = self.data.special.eos
        lists = [ids.tolist() for ids in examples]
        if self.data.bos_eos:
            texts = [[one for one in ids if one != eos] for ids in lists]
        else:
            texts = [ids[: ids.index(eos)] if eos in ids else ids for ids in lists]
        return decoded(self.data.tokenizer, texts)


def shuffled(texts: Sequence[str]) -> list[str]:
    """Each text with its words in random order."""
    mixed = []
    for number, text in enumerate(texts):
        words = text.split()
        order = torch.randperm(len(words), generator=seeded_generator("shuffled words", number))
        mixed.append(" ".join(words[index] for index in order.tolist()))
    return mixed
