"""Text -> token ids, as functions for `datasets.map`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from elf_lightning.data.sources import CONDITION_IDS, CONDITION_TEXT, IDS, TEXT

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Packing = Literal["pack", "truncate", "wrap"]


@dataclass
class Tokenize:
    """Turns a batch of documents or pairs into a batch of rows of ids; call it from `datasets.map`.

    Every text ends with EOS and starts with nothing: rows carry no [CLS]. Empty documents are left out.

    Args:
        tokenizer: a Hugging Face tokenizer.
        eos_id: its id that ends a text.
        packing: `pack` keeps documents whole (rows are cut later, across documents), `truncate` cuts each
            to `max_length`, `wrap` cuts it into as many rows as it needs.
        max_length: longest row, in tokens.
        max_condition_length: longest condition, in tokens; None for unconditional text.
    """

    tokenizer: PreTrainedTokenizerBase
    eos_id: int
    packing: Packing
    max_length: int
    max_condition_length: int | None = None

    def __call__(self, columns: dict[str, list[Any]]) -> dict[str, list[list[int]]]:
        """Rows for a batch of columns."""
        if self.max_condition_length is None:
            documents = [self._end(ids) for ids in self._ids(columns, TEXT, IDS) if ids]
            return {IDS: [row for document in documents for row in self._cut(document)]}
        conditions = self._ids(columns, CONDITION_TEXT, CONDITION_IDS)
        targets = [self._end(ids) for ids in self._ids(columns, TEXT, IDS)]
        return {
            CONDITION_IDS: [ids[: self.max_condition_length] for ids in conditions],
            IDS: [ids[: self.max_length] for ids in targets],
        }

    def _ids(self, columns: dict[str, list[Any]], text: str, ids: str) -> list[list[int]]:
        if ids in columns:
            return columns[ids]
        tokens = self.tokenizer(columns[text], add_special_tokens=False, return_attention_mask=False)
        rows: list[list[int]] = tokens["input_ids"]
        return rows

    def _end(self, ids: list[int]) -> list[int]:
        return ids if ids[-1:] == [self.eos_id] else [*ids, self.eos_id]

    def _cut(self, document: list[int]) -> list[list[int]]:
        if self.packing == "pack":
            return [document]
        if self.packing == "truncate":
            return [document[: self.max_length]]
        return [document[i : i + self.max_length] for i in range(0, len(document), self.max_length)]
