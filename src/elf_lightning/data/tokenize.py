"""Text -> token ids, as a function for `datasets.map`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from elf_lightning.data.packing import BOS_EOS, CUTS, Packing
from elf_lightning.data.sentences import sentences
from elf_lightning.data.sources import CONDITION_IDS, CONDITION_TEXT, IDS, TEXT
from elf_lightning.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Name = Callable[[int], str]
"""How error messages call the example at an index of the batch."""
Table = dict[str, list[Any]]
CHARACTERS = 1_000_000
"""Of texts that are tokenised at a time: a tokenizer needs some 30 bytes for each."""
TRUNCATED = "truncated"
"""Column that is True where tokens were cut off."""


@dataclass(frozen=True)
class Tokenize:
    """Turns a batch of documents or pairs into token ids.

    A text ends with EOS and begins with no special token: there is no [CLS]. Names of special tokens in it
    are ordinary text. Empty documents, and pairs with an empty target, are left out.

    Args:
        tokenizer: a Hugging Face tokenizer.
        eos_id: its id that ends a text.
        packing: `truncate` cuts each document to `max_length`, `wrap` cuts it into as many sequences as it
            needs; for the others, documents, paragraphs or sentences stay whole, to be packed later.
        max_length: longest sequence, in tokens.
        max_condition_length: longest condition, in tokens; None for unconditional text.
        condition_eos: end conditions with EOS too.

    Raises:
        UserError: if lengths or `condition_eos` contradict each other.
    """

    tokenizer: PreTrainedTokenizerBase
    eos_id: int
    packing: Packing
    max_length: int
    max_condition_length: int | None = None
    condition_eos: bool = False

    def __post_init__(self) -> None:
        if self.packing == BOS_EOS and self.max_length < 3:
            raise UserError(
                f"data.max_length {self.max_length} has no room between BOS and EOS; give at least 3"
            )
        if self.max_condition_length is None and self.condition_eos:
            raise UserError(
                "data.condition_eos true: there are no conditions; set data.max_condition_length for "
                "text-to-text, or data.condition_eos to false"
            )
        if self.max_condition_length is not None and not 1 <= self.max_condition_length < self.max_length:
            raise UserError(
                f"data.max_condition_length {self.max_condition_length} must lie between 1 and "
                f"data.max_length - 1, {self.max_length - 1}"
            )

    @property
    def packs(self) -> bool:
        """Whether sequences cross the borders of documents; pairs are never packed."""
        return self.packing in CUTS and self.max_condition_length is None

    def check_columns(self, names: Sequence[str]) -> None:
        """Refuse pairs where documents are expected, the reverse, and ids where paragraphs are needed.

        Raises:
            UserError: with the setting to change.
        """
        paired = CONDITION_TEXT in names or CONDITION_IDS in names
        if paired and self.max_condition_length is None:
            raise UserError("the source gives pairs of condition and target; set data.max_condition_length")
        if not paired and self.max_condition_length is not None:
            raise UserError(
                f"data.max_condition_length {self.max_condition_length}: the source gives no conditions; "
                "name them with condition_column, or leave the setting out"
            )
        if self.packs and self.packing in ("paragraphs", "sentences") and IDS in names:
            raise UserError(
                f"data.packing {self.packing}: the source gives token ids, which have no {self.packing}; "
                "choose pack, truncate or wrap"
            )

    def __call__(self, columns: Table, indices: Sequence[int] | None = None, split: str = "train") -> Table:
        """The token ids of a batch.

        Args:
            columns: the batch.
            indices: the examples' indices in their split, for error messages; None in a stream.
            split: their split, for error messages.

        Raises:
            UserError: if a text is not a string, or an id is outside the vocabulary.
        """

        def name(place: int) -> str:
            if indices is None:
                return "an example of the stream"
            return f"example {indices[place]} of the {split} split (counted from 0)"

        if self.packs and self.packing == "paragraphs":
            texts = self._texts(columns[TEXT], name)
            return _whole(self._tokenised([line for text in texts for line in text.splitlines()]))
        if self.packs and self.packing == "sentences":
            return _whole(self._sentences(self._texts(columns[TEXT], name)))
        targets = self._ids(columns, TEXT, IDS, name)
        if TEXT in columns:
            targets = [[*ids, self.eos_id] if ids else ids for ids in targets]
        if self.max_condition_length is None:
            return self._documents(targets)
        return self._pairs(self._ids(columns, CONDITION_TEXT, CONDITION_IDS, name), targets)

    def _sentences(self, texts: list[str]) -> list[list[int]]:
        """Ids of each sentence; those that end a text end with EOS."""
        documents = [list(sentences(text)) for text in texts]
        ids = self._tokenised([sentence for document in documents for sentence in document])
        for end in accumulate(len(document) for document in documents if document):
            ids[end - 1] = [*ids[end - 1], self.eos_id]
        return ids

    def _documents(self, documents: list[list[int]]) -> Table:
        if self.packs:
            return _whole(documents)
        size = self.max_length
        if self.packing == "wrap":
            return _whole([ids[i : i + size] for ids in documents for i in range(0, len(ids), size)])
        kept = [ids for ids in documents if ids]
        return {IDS: [ids[:size] for ids in kept], TRUNCATED: [len(ids) > size for ids in kept]}

    def _pairs(self, conditions: list[list[int]], targets: list[list[int]]) -> Table:
        conditions = [condition for condition, target in zip(conditions, targets, strict=True) if target]
        targets = [target for target in targets if target]
        kept = [self._condition(ids) for ids in conditions]
        rooms = [self.max_length - len(condition) for condition in kept]
        return {
            CONDITION_IDS: kept,
            IDS: [target[:room] for target, room in zip(targets, rooms, strict=True)],
            TRUNCATED: [
                len(target) > room or len(whole) > len(condition)
                for target, room, whole, condition in zip(targets, rooms, conditions, kept, strict=True)
            ],
        }

    def _condition(self, ids: list[int]) -> list[int]:
        if not self.condition_eos:
            return ids[: self.max_condition_length]
        assert self.max_condition_length is not None
        text = ids[:-1] if ids and ids[-1] == self.eos_id else ids
        return [*text[: self.max_condition_length - 1], self.eos_id]

    def _ids(self, columns: Table, text: str, ids: str, name: Name) -> list[list[int]]:
        """Ids of a column of texts or of ids; a missing value counts as an empty one."""
        if ids not in columns:
            return self._tokenised(self._texts(columns[text], name))
        given = [one or [] for one in columns[ids]]
        self._check_ids(given, name)
        return given

    def _texts(self, column: list[Any], name: Name) -> list[str]:
        texts = [value or "" for value in column]
        if wrong := [place for place, value in enumerate(texts) if not isinstance(value, str)]:
            raise UserError(
                f"{name(wrong[0])} has {texts[wrong[0]]!r:.40} for a text; choose another text_column or "
                "condition_column"
            )
        return texts

    def _tokenised(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = [[] for _ in texts]
        for batch in _batches(texts):
            tokens = self.tokenizer(
                [piece for _, piece in batch],
                add_special_tokens=False,
                split_special_tokens=True,
                return_attention_mask=False,
                return_token_type_ids=False,
            )
            for (place, _), found in zip(batch, tokens["input_ids"], strict=True):
                ids[place] += found
        return ids

    def _check_ids(self, given: list[list[int]], name: Name) -> None:
        size = len(self.tokenizer)
        for place, example in enumerate(given):
            if not example:
                continue
            # As objects where the first is not a number: nested lists may differ in length.
            ids = np.array(example, dtype=None if isinstance(example[0], int | float) else object)
            if ids.dtype.kind not in "iu":
                raise UserError(f"{name(place)} has {example!r:.40} for ids; they must be whole numbers")
            if ids.min() < 0 or ids.max() >= size:
                raise UserError(
                    f"{name(place)} has ids from {ids.min()} to {ids.max()}; the tokenizer "
                    f"'{self.tokenizer.name_or_path}' has 0 to {size - 1}: use the tokenizer that made them"
                )


def _whole(texts: list[list[int]]) -> Table:
    kept = [ids for ids in texts if ids]
    return {IDS: kept, TRUNCATED: [False] * len(kept)}


def _batches(texts: Sequence[str]) -> Iterator[list[tuple[int, str]]]:
    """The texts by place, in batches of at most `CHARACTERS`; longer ones in pieces."""
    batch: list[tuple[int, str]] = []
    size = 0
    for place, text in enumerate(texts):
        for piece in _pieces(text):
            if batch and size + len(piece) > CHARACTERS:
                yield batch
                batch, size = [], 0
            batch.append((place, piece))
            size += len(piece)
    if batch:
        yield batch


def _pieces(text: str) -> Iterator[str]:
    """The text, cut before a space, where tokenizers cut too, if it is longer than `CHARACTERS`."""
    start = 0
    while len(text) - start > CHARACTERS:
        space = max(text.rfind(mark, start + 1, start + CHARACTERS) for mark in " \n")
        end = space if space > start else start + CHARACTERS
        yield text[start:end]
        start = end
    yield text[start:]
