"""Text -> token ids, as a function for `datasets.map`."""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from operator import itemgetter
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from elf_lightning.data.packing import BOS_EOS, CUTS, Packing
from elf_lightning.data.sources import CONDITION_IDS, CONDITION_TEXT, IDS, TEXT
from elf_lightning.encoders.hugging_face import token_ids
from elf_lightning.errors import UserError

Table = dict[str, list[Any]]
CHARACTERS = 1_000_000
"""Of texts that are tokenised at a time: a tokenizer needs some 30 bytes for each."""
SENTENCE_END = re.compile(r"""[.!?…]["'”’)\]]*(?=\s+["'“‘(\[]*[^\W\d_a-z])|[。！？]["'”’」』）]*|\n""")  # noqa: RUF001
"""A sentence's last mark and closing quotes, before what may begin another; or the end of a line."""
ABBREVIATION = re.compile(
    r"(?<!\w)(?:Mr|Mrs|Ms|Dr|St|Messrs|Mme|Mlle|Prof|Capt|Col|Gen|Lieut|Lt|Rev|Hon|Esq|Vol|vol|No|\w)\.$"
)
"""Ends with a full stop that does not end a sentence: titles and single letters."""
TRUNCATED = "truncated"  # column that is True where tokens were cut off


@dataclass(frozen=True)
class Tokenize:
    """Turns a batch of documents or pairs into token ids; the settings are those of `ELFDataModule`.

    A text ends with EOS and begins with no special token: there is no [CLS]. Names of special tokens in it
    are ordinary text. Empty documents, and pairs with an empty target, are left out. Documents, paragraphs or
    sentences to be packed stay whole.
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

    def __call__(self, columns: Table, indices: Sequence[int] | None = None, split: str = "train") -> Table:
        """The token ids of a batch; `indices` (None in a stream) and `split` are for error messages."""
        self._check_columns(columns)
        for column in (TEXT, CONDITION_TEXT, IDS, CONDITION_IDS):
            for place, value in enumerate(columns.get(column, [])):
                if value and (problem := self._problem(value, is_text=column in (TEXT, CONDITION_TEXT))):
                    where = "an example of the stream"
                    if indices is not None:
                        where = f"example {indices[place]} of the {split} split (counted from 0)"
                    raise UserError(f"{where} has {problem}")
        if self.packs and self.packing == "paragraphs":
            lines = [line for text in columns[TEXT] for line in (text or "").splitlines()]
            targets = self._tokenised(lines)
        elif self.packs and self.packing == "sentences":
            targets = self._sentences(columns[TEXT])
        else:
            targets = self._ids(columns, TEXT, IDS)
            if TEXT in columns:
                targets = [[*ids, self.eos_id] if ids else ids for ids in targets]
        if self.max_condition_length is not None:
            return self._pairs(self._ids(columns, CONDITION_TEXT, CONDITION_IDS), targets)
        limit = sys.maxsize if self.packs else self.max_length
        if self.packing == "wrap":
            targets = [ids[i : i + limit] for ids in targets for i in range(0, len(ids), limit)]
        kept = [ids for ids in targets if ids]
        return {IDS: [ids[:limit] for ids in kept], TRUNCATED: [len(ids) > limit for ids in kept]}

    def _check_columns(self, names: Table) -> None:
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

    def _problem(self, value: Any, is_text: bool) -> str:
        """What is wrong with a text or ids."""
        if is_text and isinstance(value, str):
            return ""
        if is_text:
            return f"{value!r:.40} instead of a text; choose another text_column or condition_column"
        # As objects where the first is not a number: nested lists may differ in length.
        numbers = isinstance(value, list) and isinstance(value[0], int | float)
        ids = np.array(value, dtype=None if numbers else object)
        if ids.dtype.kind not in "iu":
            return f"{value!r:.40} instead of a list of ids; they must be whole numbers"
        size = len(self.tokenizer)
        if ids.min() >= 0 and ids.max() < size:
            return ""
        return (
            f"ids from {ids.min()} to {ids.max()}; the tokenizer '{self.tokenizer.name_or_path}' has 0 to "
            f"{size - 1}: use the tokenizer that made them"
        )

    def _sentences(self, texts: list[str | None]) -> list[list[int]]:
        """Ids of each sentence; those that end a text end with EOS."""
        documents = [[*sentences(text or "")] for text in texts]
        ids = self._tokenised([sentence for document in documents for sentence in document])
        ends = accumulate(map(len, documents))
        for document, end in zip(documents, ends, strict=True):
            # White space has no tokens, and a text without any is left out.
            if last := next((one for one in ids[end - len(document) : end][::-1] if one), None):
                last.append(self.eos_id)
        return ids

    def _pairs(self, conditions: list[list[int]], targets: list[list[int]]) -> Table:
        table: Table = {CONDITION_IDS: [], IDS: [], TRUNCATED: []}
        eos = [self.eos_id] * self.condition_eos
        for condition, target in zip(conditions, targets, strict=True):
            if target:
                text = condition[:-1] if eos and condition[-1:] == eos else condition
                kept = text[: (self.max_condition_length or 0) - len(eos)] + eos
                room = self.max_length - len(kept)
                table[CONDITION_IDS].append(kept)
                table[IDS].append(target[:room])
                table[TRUNCATED].append(len(target) > room or len(text) + len(eos) > len(kept))
        return table

    def _ids(self, columns: Table, text: str, ids: str) -> list[list[int]]:
        """Ids of a column of texts or of ids; a missing value counts as an empty one."""
        return [one or [] for one in columns[ids]] if ids in columns else self._tokenised(columns[text])

    def _tokenised(self, texts: Sequence[str | None]) -> list[list[int]]:
        ids: list[list[int]] = [[] for _ in texts]
        for _, batch in groupby(_pieces(texts), itemgetter(0)):
            _, places, pieces = zip(*batch, strict=True)
            for place, found in zip(places, token_ids(self.tokenizer, list(pieces)), strict=True):
                ids[place] += found
        return ids


def _pieces(texts: Sequence[str | None]) -> Iterator[tuple[int, int, str]]:
    """Pieces of the texts after their batch and place; cut before a space, where tokenizers cut too."""
    batch = size = 0
    for place, text in enumerate(texts):
        start, length = 0, len(text := text or "")
        while start < length:
            end = length
            if length - start > CHARACTERS:
                space = max(text.rfind(mark, start + 1, start + CHARACTERS) for mark in " \n")
                end = space if space > start else start + CHARACTERS
            size += end - start
            if size > CHARACTERS:
                batch, size = batch + 1, end - start
            yield batch, place, text[start:end]
            start = end


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text, whitespace included: joined, they are the text.

    A rule for European and East Asian punctuation, which errs at abbreviations that it does not know.
    """
    start = 0
    for end in SENTENCE_END.finditer(text):
        if not ABBREVIATION.search(text, start, end.end()):
            yield text[start : end.end()]
            start = end.end()
    if start < len(text):
        yield text[start:]
