"""Tokens per second of the loader and of training; memory of an epoch at 1 and 10 times the data.

    python -m benchmarks.loader --size bible --json loader.json

The sequences are random ids, prepared as any corpus; training takes cached latents, as `conf/bible.yaml`
does.
Memory is the largest `RssAnon` of /proc/self/status, so without mapped files, in a process of its own.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import datasets
import numpy as np
import torch
from rich.table import Table
from tokenizers import Tokenizer, models
from transformers import BertConfig, PreTrainedTokenizerFast

from benchmarks.batches import RandomBatches
from benchmarks.measure import Budget, Function, Rounds, Spread, alternate, new_table, run
from benchmarks.sizes import SIZES, Size
from benchmarks.training import Training
from elf_lightning.data import ELFDataModule, SavedDataset
from elf_lightning.encoders import TokenTableEncoder

TRAINING = "training"
STATUS = Path("/proc/self/status")


def save_corpus(folder: Path, size: Size, sequences: int) -> None:
    """A data set of random sequences, and the folder of a model with that vocabulary and latent size."""
    special = {"pad_token": "[PAD]", "eos_token": "[EOS]", "unk_token": "[UNK]"}
    tokens = [*special.values(), *(f"token{number}" for number in range(size.vocab_size - len(special)))]
    words = Tokenizer(models.WordLevel({token: number for number, token in enumerate(tokens)}, "[UNK]"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **special)  # type: ignore[no-untyped-call]
    tokenizer.save_pretrained(folder / "model")
    BertConfig(vocab_size=len(tokens), hidden_size=size.latent_size).save_pretrained(folder / "model")
    shape = (sequences, size.max_length)
    ids = np.random.default_rng(0).integers(len(special), len(tokens), shape, np.int32)
    datasets.Dataset.from_dict({"input_ids": ids}).save_to_disk(folder / "rows")


def train_loader(folder: Path, size: Size, workers: int = 0, cache_latents: bool = False) -> Iterable[Any]:
    """Over the sequences of `folder`, prepared."""
    data = ELFDataModule(
        SavedDataset(str(folder / "rows")),
        TokenTableEncoder(str(folder / "model"), latent_size=size.latent_size),
        size.max_length, batch_size=size.batch_size, num_workers=workers, cache_latents=cache_latents,
        cache_dir=str(folder / "cache"), latent_mean=0.0, latent_std=1.0,
    )  # fmt: skip
    data.prepare_data()
    return data.train_dataloader()


@contextmanager
def corpus(size: Size, sequences: int) -> Iterator[Path]:
    """The folder of a prepared corpus, as long as it is needed."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        save_corpus(folder, size, sequences)
        train_loader(folder, size)
        yield folder


def tokens_read(loader: Iterable[Any]) -> int:
    """Reads an epoch; returns its number of tokens."""
    return sum(batch.input_ids.numel() for batch in loader)


def speed(size: Size, sequences: int, rounds: int, device: torch.device) -> tuple[Rounds, dict[str, int]]:
    """Times of a training step and of reading an epoch in several ways, and the tokens of each."""
    training, batch = (
        Training(size.network(device), size.objective),
        RandomBatches(size, device)(size.batch_size),
    )
    functions: dict[str, Function] = {TRAINING: lambda: training(batch)}
    tokens = {TRAINING: batch.input_ids.numel()}
    with corpus(size, sequences) as folder:
        for name, cached in {"tokens": False, "tokens and cached latents": True}.items():
            for workers in (0, 2):
                loader = train_loader(folder, size, workers, cached)
                functions[f"{name}, {workers} workers"] = partial(tokens_read, loader)
                tokens[f"{name}, {workers} workers"] = tokens_read(loader)
        return alternate(functions, rounds, device), tokens


def speed_table(rounds: Rounds, tokens: dict[str, int]) -> tuple[Table, dict[str, Any]]:
    """One line for each function, and the same as numbers."""
    table, records = new_table("Loader and training", "", "tokens/s", "times training"), {}
    for name, seconds in rounds.seconds.items():
        rates = [tokens[name] / one for one in seconds]
        ratios = [a * b / tokens[TRAINING] for a, b in zip(rates, rounds.seconds[TRAINING], strict=True)]
        table.add_row(name, f"{median(rates):,.0f}", str(Spread.of(ratios)))
        records[name] = {
            "tokens_per_second": vars(Spread.of(rates)),
            "times_training": vars(Spread.of(ratios)),
        }
    return table, records


def anonymous_bytes() -> int:
    """Memory of this process that no file backs."""
    found = re.search(r"RssAnon:\s*(\d+) kB", STATUS.read_text())
    assert found
    return 1024 * int(found[1])


def epoch_memory(folder: Path, size: Size) -> int:
    """Largest `anonymous_bytes` while reading an epoch, sampled every ten batches."""
    return max(anonymous_bytes() for number, _ in enumerate(train_loader(folder, size)) if number % 10 == 0)


def memory(size: Size, sequences: int) -> dict[str, int]:
    """Bytes at 1 and 10 times the data; nothing where there is no /proc."""
    measured: dict[str, int] = {}
    for number in (sequences, 10 * sequences) if STATUS.exists() else ():
        with corpus(size, number) as folder, ProcessPoolExecutor(1, get_context("spawn")) as process:
            measured[f"{number:,} sequences"] = process.submit(epoch_memory, folder, size).result()
    return measured


def measure(options: argparse.Namespace, _: Budget) -> tuple[list[object], dict[str, Any]]:
    """Speed and memory."""
    datasets.disable_progress_bars()
    size, sequences = SIZES[options.size], options.sequences
    table, records = speed_table(*speed(size, sequences, options.rounds, torch.device(options.device)))
    measured = memory(size, sequences)
    lines = [f"memory of an epoch, {name}: {number / 1e6:,.0f} MB" for name, number in measured.items()]
    return [table, *lines], {"speed": records, "memory_bytes": measured}


main = partial(run, measure, __doc__, sequences=8000)

if __name__ == "__main__":
    main()
