"""Network ids -> text."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor

from elf_lightning.encoders import read_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HALF_LETTER = "\N{REPLACEMENT CHARACTER}"
"""What tokenizers of bytes decode a part of a letter to."""


class Detokenizer:
    """Turns rows of network ids into text; padding and EOS are left out, unknown pieces show.

    Args:
        tokenizer: the tokenizer that made the ids.
        kept_ids: tokenizer id of each network id; None where they are the same.
        skipped_ids: network ids that are no text: padding and EOS.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, kept_ids: list[int] | None, skipped_ids: set[int]
    ) -> None:
        self.tokenizer = tokenizer
        self.kept_ids = kept_ids
        self.skipped_ids = skipped_ids
        self._piece = cache(self._share)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """From a checkpoint's decoding state (`ELFDataModule.decoding_state`).

        Raises:
            UserError: if the tokenizer cannot be read.
        """
        tokenizer = read_tokenizer(state["tokenizer"])
        return cls(tokenizer, state["kept_ids"], {state["pad_id"], state["eos_id"]})

    def __call__(self, ids: Tensor) -> list[str]:
        """One text for each row of (N, S) ids."""
        return self.tokenizer.batch_decode([self.tokenizer_ids(row) for row in ids.tolist()])

    def tokenizer_ids(self, row: list[int]) -> list[int]:
        """The tokenizer's ids of one row of network ids, without padding."""
        return [self._tokenizer_id(token) for token in row if token not in self.skipped_ids]

    def pieces(self, row: list[int]) -> list[str]:
        """Each network id's share of the row's text, with the space before it; empty where it is none."""
        pieces: list[str] = []
        before: int | None = None
        for token in row:
            if token in self.skipped_ids:
                pieces.append("")
            else:
                before, last = self._tokenizer_id(token), before
                pieces.append(self._piece(last, before))
        return pieces

    def _tokenizer_id(self, token: int) -> int:
        return token if self.kept_ids is None else self.kept_ids[token]

    def _share(self, before: int | None, token: int) -> str:
        """What the tokenizer's `token` adds to a text that ends in `before`."""
        context = [] if before is None else [before]
        decoded = self.tokenizer.batch_decode([context, [*context, token], [token]])
        start, both, alone = (text.strip(HALF_LETTER) for text in decoded)
        return both.removeprefix(start) if both.startswith(start) else alone
