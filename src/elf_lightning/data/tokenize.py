"""Text -> rows of token ids, as a function for `datasets.map`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from elf_lightning.data.sources import CONDITION_IDS, CONDITION_TEXT, IDS, TEXT
from elf_lightning.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Packing = Literal["pack", "truncate", "wrap"]
CUT = "cut"
"""Column that is True where a row lost its end."""


@dataclass(frozen=True)
class Tokenize:
    """Turns a batch of documents or pairs into a batch of rows of ids.

    A text ends with EOS and starts with nothing: rows carry no [CLS]. Ids that come tokenised stay as they
    are. Empty documents are left out.

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

    def check_columns(self, names: Sequence[str]) -> None:
        """Refuse pairs where documents are wanted, and the other way round.

        Raises:
            UserError: with what to set.
        """
        paired = CONDITION_TEXT in names or CONDITION_IDS in names
        if paired and self.max_condition_length is None:
            raise UserError("the source gives pairs of condition and target; set data.max_condition_length")
        if not paired and self.max_condition_length is not None:
            raise UserError(
                f"data.max_condition_length {self.max_condition_length}: the source gives no conditions; "
                "name them with condition_column, or leave the setting out"
            )

    def __call__(self, columns: dict[str, list[Any]], indices: Sequence[int]) -> dict[str, list[Any]]:
        """Rows of a batch of columns.

        Args:
            columns: the batch.
            indices: the examples' numbers, for errors.

        Raises:
            UserError: if a target is empty or an id is outside the vocabulary.
        """
        targets = self._ids(columns, TEXT, IDS, indices)
        if TEXT in columns:
            targets = [[*ids, self.eos_id] if ids else ids for ids in targets]
        if self.max_condition_length is None:
            return self._documents(targets)
        return self._pairs(self._ids(columns, CONDITION_TEXT, CONDITION_IDS, indices), targets, indices)

    def _documents(self, documents: list[list[int]]) -> dict[str, list[Any]]:
        rows = [row for document in documents if document for row in self._cut(document)]
        whole = self.packing != "truncate"
        cut = [not whole and len(document) > self.max_length for document in documents if document]
        return {IDS: rows, CUT: [False] * len(rows) if whole else cut}

    def _cut(self, document: list[int]) -> list[list[int]]:
        if self.packing == "pack":
            return [document]
        if self.packing == "truncate":
            return [document[: self.max_length]]
        return [document[i : i + self.max_length] for i in range(0, len(document), self.max_length)]

    def _pairs(
        self, conditions: list[list[int]], targets: list[list[int]], indices: Sequence[int]
    ) -> dict[str, list[Any]]:
        if empty := [index for index, target in zip(indices, targets, strict=True) if not target]:
            raise UserError(
                f"the source's example {empty[0]} (counted from 0) has an empty target; leave it out"
            )
        kept = [ids[: self.max_condition_length] for ids in conditions]
        rooms = [self.max_length - len(condition) for condition in kept]
        return {
            CONDITION_IDS: kept,
            IDS: [target[:room] for target, room in zip(targets, rooms, strict=True)],
            CUT: [
                len(target) > room or len(whole) > len(condition)
                for target, room, whole, condition in zip(targets, rooms, conditions, kept, strict=True)
            ],
        }

    def _ids(
        self, columns: dict[str, list[Any]], text: str, ids: str, indices: Sequence[int]
    ) -> list[list[int]]:
        if ids not in columns:
            tokens = self.tokenizer(columns[text], add_special_tokens=False, return_attention_mask=False)
            tokenised: list[list[int]] = tokens["input_ids"]
            return tokenised
        size = len(self.tokenizer)
        for index, row in zip(indices, columns[ids], strict=True):
            if row and not (min(row) >= 0 and max(row) < size):
                raise UserError(
                    f"the source's example {index} (counted from 0) has ids from {min(row)} to {max(row)}; "
                    f"the tokenizer '{self.tokenizer.name_or_path}' knows 0 to {size - 1}: "
                    "use the tokenizer that made them"
                )
        return columns[ids]
