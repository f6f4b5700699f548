"""Text -> rows of token ids, as a function for `datasets.map`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from elf_lightning.data.sources import CONDITION_IDS, CONDITION_TEXT, IDS, TEXT
from elf_lightning.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Packing = Literal["pack", "truncate", "wrap"]
Name = Callable[[int], str]
"""What the example at a place of a batch is called in errors."""
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

    def __call__(
        self, columns: dict[str, list[Any]], indices: Sequence[int] | None = None, split: str = "train"
    ) -> dict[str, list[Any]]:
        """Rows of a batch of columns.

        Args:
            columns: the batch.
            indices: the examples' numbers in their split, for errors; None where they have none, in a stream.
            split: their split, for errors.

        Raises:
            UserError: if a target is empty, a text is none, or an id is outside the vocabulary.
        """

        def name(place: int) -> str:
            if indices is None:
                return "an example of the stream"
            return f"example {indices[place]} of the {split} split (counted from 0)"

        targets = self._ids(columns, TEXT, IDS, name)
        if TEXT in columns:
            targets = [[*ids, self.eos_id] if ids else ids for ids in targets]
        if self.max_condition_length is None:
            return self._documents(targets)
        return self._pairs(self._ids(columns, CONDITION_TEXT, CONDITION_IDS, name), targets, name)

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
        self, conditions: list[list[int]], targets: list[list[int]], name: Name
    ) -> dict[str, list[Any]]:
        if empty := [place for place, target in enumerate(targets) if not target]:
            raise UserError(f"{name(empty[0])} has an empty target; leave it out")
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

    def _ids(self, columns: dict[str, list[Any]], text: str, ids: str, name: Name) -> list[list[int]]:
        """Ids of a column of texts or of ids; a missing value counts as an empty one."""
        if ids in columns:
            rows = [row or [] for row in columns[ids]]
            self._check_ids(rows, name)
            return rows
        texts = [value or "" for value in columns[text]]
        if wrong := [place for place, value in enumerate(texts) if not isinstance(value, str)]:
            raise UserError(
                f"{name(wrong[0])} has {texts[wrong[0]]!r:.40} for a text; choose another text_column or "
                "condition_column"
            )
        tokens = self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False)
        tokenised: list[list[int]] = tokens["input_ids"]
        return tokenised

    def _check_ids(self, rows: list[list[int]], name: Name) -> None:
        size = len(self.tokenizer)
        for place, row in enumerate(rows):
            if not row:
                continue
            # Of objects where the first is no number: lists in it need not be of one length.
            ids = np.array(row, dtype=None if isinstance(row[0], int | float) else object)
            if ids.dtype.kind not in "iu":
                raise UserError(f"{name(place)} has {row!r:.40} for ids; they must be whole numbers")
            if ids.min() < 0 or ids.max() >= size:
                raise UserError(
                    f"{name(place)} has ids from {ids.min()} to {ids.max()}; the tokenizer "
                    f"'{self.tokenizer.name_or_path}' knows 0 to {size - 1}: use the tokenizer that made them"
                )
