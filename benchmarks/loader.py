"""Tokens that the loader gives a second, beside those that training takes; memory at 1 and 10 times the data.

    python -m benchmarks.loader --size quickstart --json loader.json

The rows are random ids, prepared as any corpus is. Training steps are those of the size's network on rows
whose latents are cached, as the quickstart has them. Memory is `RssAnon` of /proc/self/status, so without
pages that are mapped from files, at its highest during an epoch in a process of its own.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from rich.table import Table

from benchmarks.rounds import Rounds, Spread, alternate, arguments, report
from benchmarks.sizes import SIZES, Size
from benchmarks.train_step import ProductTraining
from elf_lightning.data import ELFDataModule, SavedDataset
from elf_lightning.encoders import TokenTableEncoder

TRAINING = "training"
STATUS = Path("/proc/self/status")
GROWTH = 10
"""How many times the data memory is measured at, besides once."""


def save_corpus(folder: Path, size: Size, rows: int) -> None:
    """A data set of random rows, and a model's folder that knows the pieces and the size of their latents."""
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import BertConfig, PreTrainedTokenizerFast

    special = {"pad_token": "[PAD]", "eos_token": "[EOS]", "unk_token": "[UNK]"}
    pieces = [*special.values(), *(f"piece{number}" for number in range(size.vocabulary_size - len(special)))]
    words = Tokenizer(models.WordLevel({piece: number for number, piece in enumerate(pieces)}, "[UNK]"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **special)  # type: ignore[no-untyped-call]
    tokenizer.save_pretrained(folder / "model")
    BertConfig(vocab_size=len(pieces), hidden_size=size.latent_size).save_pretrained(folder / "model")
    ids = np.random.default_rng(0).integers(len(special), len(pieces), (rows, size.max_length), np.int32)
    Dataset.from_dict({"input_ids": ids}).save_to_disk(folder / "rows")


def data_module(folder: Path, size: Size, workers: int = 0, cache_latents: bool = False) -> ELFDataModule:
    """Over the rows of `folder`, prepared."""
    encoder = TokenTableEncoder(str(folder / "model"), latent_size=size.latent_size)
    data = ELFDataModule(
        SavedDataset(str(folder / "rows")), encoder, size.max_length, batch_size=size.batch_size,
        num_workers=workers, cache_latents=cache_latents, cache_dir=str(folder / "cache"),
        latent_mean=0.0, latent_std=1.0,
    )  # fmt: skip
    data.prepare_data()
    return data


def training_step(size: Size, device: torch.device) -> Callable[[], int]:
    """Makes a step on random latents; returns the tokens that it took."""
    training = ProductTraining(size, device)

    def step() -> int:
        training()
        return training.batch.input_ids.numel()

    return step


def tokens_read(loader: Iterable[Any]) -> int:
    """Reads an epoch."""
    return sum(batch.input_ids.numel() for batch in loader)


def reading(folder: Path, size: Size) -> dict[str, Callable[[], int]]:
    """Ways to read an epoch of the rows in `folder`, with and without cached latents."""
    ways: dict[str, Callable[[], int]] = {}
    for name, cached in {"tokens": False, "tokens and cached latents": True}.items():
        for workers in (0, 2):
            loader = data_module(folder, size, workers, cached).train_dataloader()
            ways[f"{name}, {workers} workers"] = lambda loader=loader: tokens_read(loader)  # type: ignore[misc]
    return ways


def anonymous_bytes() -> int:
    """Memory of this process that no file backs."""
    found = re.search(r"RssAnon:\s*(\d+) kB", STATUS.read_text())
    assert found
    return 1024 * int(found[1])


def epoch_memory(folder: Path, size: Size) -> int:
    """The most that reading an epoch takes, looked at now and then."""
    loader = data_module(folder, size).train_dataloader()
    return max(anonymous_bytes() for number, _ in enumerate(loader) if number % 10 == 0)


@contextmanager
def corpus(size: Size, rows: int) -> Iterator[Path]:
    """The folder of a prepared corpus, as long as it is needed."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        save_corpus(folder, size, rows)
        data_module(folder, size)
        yield folder


def memory(size: Size, rows: int) -> dict[str, int]:
    """Bytes at once and `GROWTH` times the rows; nothing where the system does not tell."""
    measured: dict[str, int] = {}
    for times in (1, GROWTH) if STATUS.exists() else ():
        with corpus(size, times * rows) as folder, ProcessPoolExecutor(1, get_context("spawn")) as process:
            measured[f"{times * rows:,} rows"] = process.submit(epoch_memory, folder, size).result()
    return measured


def speed(size: Size, rows: int, rounds: int, device: torch.device) -> tuple[Rounds, dict[str, int]]:
    """Seconds of all ways, training the first, and the tokens of each."""
    with corpus(size, rows) as folder:
        ways = {TRAINING: training_step(size, device), **reading(folder, size)}
        tokens = {name: way() for name, way in ways.items()}
        return alternate(ways, rounds, device), tokens


def speed_table(rounds: Rounds, tokens: dict[str, int]) -> tuple[Table, dict[str, Any]]:
    """One line for each way, and the same as numbers."""
    table, records = Table("", title="Loader against training, threads as below"), {}
    for heading in ("tokens/s", "times training"):
        table.add_column(heading, justify="right")
    for way, seconds in rounds.seconds.items():
        rate = Spread.of([tokens[way] / one for one in seconds])
        share = tokens[way] / tokens[TRAINING]
        ratio = Spread.of([share * a / b for a, b in zip(rounds.seconds[TRAINING], seconds, strict=True)])
        table.add_row(way, f"{rate.median:,.0f}", str(ratio))
        records[way] = {"tokens_per_second": vars(rate), "times_training": vars(ratio)}
    return table, records


def memory_table(measured: dict[str, int]) -> Table:
    """Memory, and how much more it is than at first."""
    table = Table("", "MB", "more", title="Anonymous memory of an epoch, no workers")
    first = next(iter(measured.values()))
    for name, size in measured.items():
        table.add_row(name, f"{size / 1e6:,.0f}", f"{size / first - 1:+.1%}")
    return table


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=8000, help="of the corpus, once (default: 8000)")
    return parser.parse_args(words)


def main() -> None:
    """Measures, prints and writes what the command line asks for."""
    from datasets import disable_progress_bars

    disable_progress_bars()
    options = options_of()
    size = SIZES[options.size]
    table, records = speed_table(*speed(size, options.rows, options.rounds, torch.device(options.device)))
    measured = memory(size, options.rows)
    tables = [table, *([memory_table(measured)] if measured else [])]
    report(tables, {"size": options.size, "speed": records, "memory": measured}, options)


if __name__ == "__main__":
    main()
