"""Sources -> prepared rows on disk, made once and kept under a key of everything they depend on."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from elf_lightning.data.rows import DocumentRows, PackedRows, Rows
from elf_lightning.data.sources import CONDITION_IDS, IDS, Source
from elf_lightning.data.tokenize import CUT, Packing, Tokenize
from elf_lightning.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

FORMAT = 1
"""Raised whenever prepared files change their meaning."""


def cache_key(**parts: Any) -> str:
    """A short name for a set of plain values; the same values always give the same name."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Changes with whatever decides a tokenizer's ids; to be taken before its first use, which changes it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)  # the few written in Python have none
    state = repr(tokenizer) + repr(tokenizer.get_vocab()) if backend is None else backend.to_str()
    return hashlib.sha256(state.encode()).hexdigest()


@contextmanager
def written_once(folder: Path) -> Iterator[Path | None]:
    """A folder to fill that takes the name `folder` only when complete; None where that exists already.

    Only one process at a time gets in, the others wait. What is not completed is thrown away: at once, or by
    the next process where this one is killed.

    Raises:
        UserError: if the cache folder is not writable.
    """
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    if folder.exists():
        yield None
        return
    unfinished = folder.with_suffix(".incomplete")
    with ExitStack() as stack:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(WeakFileLock(folder.with_suffix(".lock")))
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
        except OSError as error:
            raise UserError(
                f"data.cache_dir '{folder.parent}' is not writable ({error.strerror}); give a folder that is"
            ) from error
        if folder.exists():  # another process made it while this one waited
            unfinished.rmdir()
            yield None
            return
        stack.callback(shutil.rmtree, unfinished, ignore_errors=True)
        yield unfinished
        unfinished.rename(folder)


@dataclass(frozen=True)
class Preparation:
    """Tokenises a source into memory-mapped rows.

    Args:
        source: where the text comes from.
        tokenizer: a Hugging Face tokenizer.
        eos_id: its id that ends a text.
        packing: how documents become rows.
        max_length: longest row, in tokens.
        max_condition_length: longest condition, in tokens; None for unconditional text.
        cache_dir: folder for prepared rows.
        num_proc: processes that tokenise; None for this one alone.
    """

    source: Source
    tokenizer: PreTrainedTokenizerBase
    eos_id: int
    packing: Packing
    max_length: int
    max_condition_length: int | None
    cache_dir: Path
    num_proc: int | None = None

    @cached_property
    def key(self) -> str:
        """Changes with the source, the tokenizer and whatever decides the rows."""
        return cache_key(
            format=FORMAT,
            source=self.source.identity(),
            tokenizer=tokenizer_fingerprint(self.tokenizer),
            eos_id=self.eos_id,
            packing=self.packing,
            # Packed rows are cut when they are read, so their length is not part of what is on disk.
            max_length=None if self._packed else self.max_length,
            max_condition_length=self.max_condition_length,
        )

    @property
    def folder(self) -> Path:
        """Where the prepared rows lie."""
        return self.cache_dir / f"rows-{self.key}"

    @property
    def _packed(self) -> bool:
        return self.packing == "pack" and self.max_condition_length is None

    def run(self) -> None:
        """Prepare the rows, unless they are there.

        Raises:
            UserError: if the source is at fault or the cache folder is not writable.
        """
        with written_once(self.folder) as folder:
            if folder is None:
                return
            scratch = folder / "scratch"
            scratch.mkdir()
            for split, dataset in self.source.load(scratch).items():
                self._tokenize(dataset, folder / split)
            shutil.rmtree(scratch)

    @property
    def tokenize(self) -> Tokenize:
        """Makes rows of text."""
        return Tokenize(self.tokenizer, self.eos_id, self.packing, self.max_length, self.max_condition_length)

    def _tokenize(self, dataset: Dataset, folder: Path) -> None:
        from datasets import Features, List, Value

        self.tokenize.check_columns(dataset.column_names)
        folder.mkdir()
        columns = [IDS] if self.max_condition_length is None else [CONDITION_IDS, IDS]
        rows = dataset.map(
            self.tokenize,
            batched=True,
            with_indices=True,
            fn_kwargs={"split": folder.name},
            remove_columns=dataset.column_names,
            features=Features({name: List(Value("int32")) for name in columns} | {CUT: Value("bool")}),
            cache_file_name=str(folder / "rows.arrow"),
            new_fingerprint=f"{self.key}-{folder.name}",
            num_proc=self.num_proc,
            desc=f"Tokenising {folder.name}",
        )
        if not len(rows):
            raise UserError(f"source {type(self.source).__name__}: the {folder.name} split has no text in it")
        if cut := sum(chunk.true_count for chunk in rows.data.column(CUT).chunks):
            limits = f"data.max_length {self.max_length}"
            if self.max_condition_length is not None:
                limits += f", data.max_condition_length {self.max_condition_length}"
            logger.warning("%d of %d %s rows were cut to %s", cut, len(rows), folder.name, limits)

    def splits(self) -> list[str]:
        """Names of the prepared splits."""
        return sorted(path.name for path in self.folder.iterdir())

    def rows(self, split: str) -> Rows:
        """The prepared rows of a split.

        Raises:
            UserError: if it has not enough tokens for one packed row.
        """
        dataset = self._open(split)
        if not self._packed:
            return DocumentRows(dataset)
        rows = PackedRows(dataset, self.max_length)
        if not len(rows):
            raise UserError(
                f"data.max_length {self.max_length}: the {split} split has only {rows.num_tokens} tokens, "
                "not one row; give more text, hold out more or choose a shorter length"
            )
        return rows

    def lengths(self, split: str) -> npt.NDArray[np.int32]:
        """Tokens of each row of a split that is not packed, condition included, (N,); memory-mapped."""
        folder = self.cache_dir / f"lengths-{self.key}"
        with written_once(folder) as unfinished:
            if unfinished is not None:
                for name in self.splits():
                    DocumentRows(self._open(name)).write_lengths(unfinished / name)
        return np.memmap(folder / split, dtype=np.int32, mode="r")

    def _open(self, split: str) -> Dataset:
        from datasets import Dataset, concatenate_datasets

        files = sorted((self.folder / split).glob("rows*.arrow"))
        return concatenate_datasets([Dataset.from_file(str(file)) for file in files])

    def kept_ids(self, special: set[int]) -> list[int]:
        """Tokenizer ids that occur in the training rows, with `special` ones, ascending."""
        folder = self.cache_dir / f"vocabulary-{self.key}"
        with written_once(folder) as unfinished:
            if unfinished is not None:
                (unfinished / "kept.json").write_text(json.dumps(self._occurring_ids()))
        occurring = json.loads((folder / "kept.json").read_text())
        return sorted(special.union(occurring))

    def _occurring_ids(self) -> list[int]:
        dataset = self._open("train")
        seen = np.zeros(len(self.tokenizer), dtype=bool)
        for name in {IDS, CONDITION_IDS}.intersection(dataset.column_names):
            for chunk in dataset.data.column(name).chunks:
                seen[chunk.flatten().to_numpy()] = True
        return [int(token) for token in np.flatnonzero(seen)]
