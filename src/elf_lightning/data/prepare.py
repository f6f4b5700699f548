"""Sources -> token ids on disk, made once and kept under a key of everything they depend on."""

import hashlib
import json
import logging
import shutil
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from elf_lightning.data.cache import cache_key, reading, written_once
from elf_lightning.data.examples import PackedExamples, WholeExamples
from elf_lightning.data.packing import BOS_EOS, CUTS
from elf_lightning.data.sources import CONDITION_IDS, IDS, Source
from elf_lightning.data.sources.base import examples_at_once
from elf_lightning.data.tokenize import TRUNCATED, Tokenize
from elf_lightning.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

FORMAT = 2  # increased whenever prepared tokens change their meaning
MANY_UNKNOWN = 0.05  # fraction of unknown tokens above which a warning is given
CUT_TYPE = np.dtype([("start", np.int64), ("end", np.int64), ("eos", np.bool_)])  # how a `Cut` is stored
CUTS_FORMAT = 2  # increased whenever the borders of sequences change their meaning


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Changes with all that decides a tokenizer's ids; taken before its first use, which changes it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)  # tokenizers written in Python have none
    state = repr(tokenizer) + repr(tokenizer.get_vocab()) if backend is None else backend.to_str()
    return hashlib.sha256(state.encode()).hexdigest()


@dataclass(frozen=True)
class Summary:
    """What a prepared split holds."""

    examples: int  # number of sequences
    mean_tokens: float  # of a sequence, condition included
    padding: float  # fraction of positions, at `max_length` positions per sequence
    unknown: float  # fraction of tokens


@dataclass(frozen=True)
class Preparation:
    """Tokenises a source into memory-mapped files in `cache_dir`; `rebuild` makes damaged ones again."""

    source: Source
    tokenize: Tokenize
    cache_dir: Path
    num_proc: int | None = None
    rebuild: bool = False

    @cached_property
    def key(self) -> str:
        """Changes with the source, the tokenizer and everything that decides the sequences."""
        tokenize = self.tokenize
        return cache_key(
            format=FORMAT,
            source=self.source.identity(),
            tokenizer=tokenizer_fingerprint(tokenize.tokenizer),
            eos_id=tokenize.eos_id,
            packing=tokenize.packing,
            # The token stream is cut into packed sequences when it is read.
            max_length=None if tokenize.packs else tokenize.max_length,
            max_condition_length=tokenize.max_condition_length,
            condition_eos=tokenize.condition_eos,
        )

    @property
    def folder(self) -> Path:
        """Where the prepared data is."""
        return self.cache_dir / f"tokens-{self.key}"

    def run(self) -> None:
        """Prepare the data, unless that is done."""
        with written_once(self.folder, self.rebuild) as folder:
            if folder is None:
                return
            scratch = folder / "scratch"
            scratch.mkdir()
            for split, dataset in self.source.load(scratch).items():
                self._tokenize(dataset, folder / split)
            shutil.rmtree(scratch)

    def _tokenize(self, dataset: "Dataset", folder: Path) -> None:
        from datasets import Features, List, Value

        folder.mkdir()
        tokenize, split, paired = self.tokenize, folder.name, self.tokenize.max_condition_length is not None
        columns = [CONDITION_IDS, IDS] if paired else [IDS]
        at_once = examples_at_once(dataset.data.nbytes / max(1, len(dataset)))
        tokens = dataset.map(
            tokenize,
            batched=True,
            batch_size=at_once,
            writer_batch_size=at_once,
            with_indices=True,
            fn_kwargs={"split": split},
            remove_columns=dataset.column_names,
            features=Features({name: List(Value("int32")) for name in columns} | {TRUNCATED: Value("bool")}),
            cache_file_name=str(folder / "tokens.arrow"),
            new_fingerprint=f"{self.key}-{split}",
            num_proc=self.num_proc and min(self.num_proc, max(1, len(dataset))),
            desc=f"Tokenising {split}",
        )
        if not len(tokens):
            raise UserError(
                f"source {type(self.source).__name__}: the {split} split has no text in it; choose another "
                "split or text_column"
            )
        if cut := sum(chunk.true_count for chunk in tokens.data.column(TRUNCATED).chunks):
            condition = f", data.max_condition_length {tokenize.max_condition_length}" if paired else ""
            limit = f"data.max_length {tokenize.max_length}{condition}"
            logger.warning("%d of %d %s sequences were truncated to %s", cut, len(tokens), split, limit)
        if paired and (empty := len(dataset) - len(tokens)):
            left_out = "pairs have an empty target and are left out"
            logger.warning("%d of %d %s %s", empty, len(dataset), split, left_out)
        counts, unknown = self._counts(tokens), self._unknown_id
        if unknown is not None and counts[unknown] > MANY_UNKNOWN * counts.sum():
            logger.warning(
                "%.0f%% of the tokens of the %s split are unknown to the tokenizer '%s': choose an encoder "
                "for this language and script",
                *(100 * counts[unknown] / counts.sum(), split, tokenize.tokenizer.name_or_path),
            )

    def splits(self) -> list[str]:
        """Names of the prepared splits."""
        return sorted(path.name for path in self.folder.iterdir() if path.is_dir())

    def examples(self, split: str) -> PackedExamples | WholeExamples:
        """The prepared examples of a split."""
        dataset, tokenize = self._open(split), self.tokenize
        if not tokenize.packs:
            return WholeExamples(dataset)
        length, bos = tokenize.max_length, tokenize.packing == BOS_EOS
        with reading(self.cache_dir):
            examples = PackedExamples(dataset, length, tokenize.eos_id, self._cuts(split), bos)
        if not len(examples):
            tokens = self._counts(dataset).sum()
            raise UserError(
                f"data.max_length {length}: the {split} split has only {tokens} tokens, too few for one "
                "sequence; give more text, a larger validation_fraction or a shorter length"
            )
        return examples

    def _cuts(self, split: str) -> Path | None:
        """Where sequences start and end; None where each begins at the last one's end and is full."""
        packing, length = self.tokenize.packing, self.tokenize.max_length
        if packing == "pack":
            return None
        folder = self.cache_dir / f"cuts-{cache_key(format=CUTS_FORMAT, tokens=self.key, max_length=length)}"
        with written_once(folder, self.rebuild) as unfinished:
            if unfinished is not None:
                for name in self.splits():
                    chunks = self._open(name).data.column(IDS).chunks
                    lengths = (one for chunk in chunks for one in chunk.value_lengths().to_pylist())
                    cuts = np.fromiter(CUTS[packing](lengths, length), CUT_TYPE)
                    np.save(unfinished / f"{name}.npy", cuts)
        return folder / f"{split}.npy"

    def _open(self, split: str) -> "Dataset":
        from datasets import Dataset, concatenate_datasets

        files = sorted((self.folder / split).glob("tokens*.arrow"))
        if not files:
            raise UserError(
                f"the {split} split is not prepared in '{self.folder}'; call prepare_data() first, or run "
                "`elf prepare`"
            )
        with reading(self.folder):
            return concatenate_datasets([Dataset.from_file(str(file)) for file in files])

    def kept_ids(self, special: set[int]) -> list[int]:
        """Tokenizer ids that occur in the training set, and the `special` ones, ascending.

        Others fill their number up to a multiple of 8, which GPUs need for full speed; not in a vocabulary on
        disk from before this was so, for the runs that know it.
        """
        folder = self.cache_dir / f"vocabulary-{self.key}"
        with written_once(folder, self.rebuild) as unfinished:
            if unfinished is not None:
                self.run()
                kept = special.union(np.flatnonzero(self._counts(self._open("train"))).tolist())
                others = (one for one in range(len(self.tokenize.tokenizer)) if one not in kept)
                kept |= {*islice(others, -len(kept) % 8)}
                (unfinished / "kept.json").write_text(json.dumps(sorted(kept)))
        with reading(folder):
            return sorted(special.union(json.loads((folder / "kept.json").read_text())))

    def summary(self, kept_ids: list[int] | None = None) -> dict[str, Summary]:
        """What each prepared split holds, where the network knows the tokenizer ids `kept_ids`, or all."""
        summaries = {}
        for split in self.splits():
            counts = self._counts(self._open(split))
            known = np.full(len(counts), kept_ids is None)
            known[kept_ids or []] = True
            known[[] if self._unknown_id is None else self._unknown_id] = False
            lengths = self.examples(split).lengths()
            summaries[split] = Summary(
                examples=len(lengths),
                mean_tokens=float(lengths.mean()),
                padding=float(1 - lengths.mean() / self.tokenize.max_length),
                unknown=float(counts[~known].sum() / counts.sum()),
            )
        return summaries

    @property
    def _unknown_id(self) -> int | None:
        """The id of what the tokenizer does not know; None where it is EOS too, as in GPT-2."""
        unknown: int | None = self.tokenize.tokenizer.unk_token_id
        return None if unknown == self.tokenize.eos_id else unknown

    def _counts(self, dataset: "Dataset") -> npt.NDArray[Any]:
        """How often each tokenizer id occurs in a prepared split."""
        counts = np.zeros(len(self.tokenize.tokenizer), dtype=np.int64)
        for name in {IDS, CONDITION_IDS}.intersection(dataset.column_names):
            for chunk in dataset.data.column(name).chunks:
                counts += np.bincount(chunk.flatten().to_numpy(), minlength=len(counts))
        return counts
