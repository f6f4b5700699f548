"""Examples of a source that is read as a stream."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from elf_lightning.data import ELFDataModule, HubDataset
from elf_lightning.data.resume import Position
from elf_lightning.data.stream import StreamedExamples
from elf_lightning.errors import UserError

WORDS = [
    "in",
    "the",
    "beginning",
    "god",
    "created",
    "heaven",
    "and",
    "earth",
    "now",
    "was",
    "without",
    "form",
]


@pytest.fixture
def make_stream(make_data: Callable[..., ELFDataModule], tmp_path: Path) -> Callable[..., ELFDataModule]:
    """A DataModule over four shards of ten documents each, all different."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard in range(4):
        texts = [f"{WORDS[shard]} {WORDS[number]} {WORDS[-1 - number]}" for number in range(10)]
        Dataset.from_dict({"text": texts}).to_json(folder / f"train-{shard}.jsonl")
    Dataset.from_dict({"text": WORDS}).to_json(folder / "validation.jsonl")

    def make(source: dict[str, Any] | None = None, **overrides: Any) -> ELFDataModule:
        settings = {"streamed_examples": 12, "validation_split": "validation", "shuffle_buffer": 4}
        hub = HubDataset(**{"path": str(folder)} | settings | (source or {}))
        return make_data(**{"source": hub, "max_length": 4} | overrides)

    return make


def rows(data: ELFDataModule, epoch: int = 0) -> list[list[int]]:
    data.prepare_data()
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return [row for batch in loader for row in batch.input_ids.tolist()]


def test_an_epoch_has_the_rows_asked_for(make_stream: Callable[..., ELFDataModule]) -> None:
    data = make_stream()
    assert data.num_train_examples == 12
    assert len(data.train_dataloader()) == 6
    assert len(rows(data)) == 12


def test_epochs_differ_and_each_repeats_exactly(make_stream: Callable[..., ELFDataModule]) -> None:
    first, again, second = rows(make_stream()), rows(make_stream()), rows(make_stream(), epoch=1)
    assert first == again != second


def test_paragraphs_fill_streamed_sequences_as_prepared_ones(
    make_stream: Callable[..., ELFDataModule], tmp_path: Path
) -> None:
    folder = tmp_path / "lines"
    folder.mkdir()
    texts = [f"{first} god\n\nnow {second} {first}\nform" for first in WORDS[:6] for second in WORDS[6:]]
    Dataset.from_dict({"text": texts}).to_json(folder / "train.jsonl")
    source = {"path": str(folder), "validation_split": "train", "shuffle_buffer": 1}
    streamed = make_stream(source | {"streamed_examples": 20}, packing="paragraphs", max_length=8)
    prepared = make_stream(source | {"streamed_examples": None}, packing="paragraphs", max_length=8)
    prepared.prepare_data()
    examples = prepared.preparation.examples("train").read(range(20))
    found = [[token for token in row if token != streamed.special.pad] for row in rows(streamed)]
    assert found == [example.input_ids.tolist() for example in examples]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("done", [1, 2, 3, 5])
def test_a_resumed_run_continues_with_the_next_sequence(
    make_stream: Callable[..., ELFDataModule], workers: int, done: int
) -> None:
    whole = rows(make_stream(num_workers=workers), epoch=1)
    data = make_stream(num_workers=workers)
    data.position = Position(epoch=1, batch=done)
    assert rows(data, epoch=1) == whole[2 * done :]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_leave_out_the_validation_examples(
    make_stream: Callable[..., ELFDataModule], tmp_path: Path, workers: int
) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    for shard in range(workers or 1):
        texts = [f"{WORDS[shard]} {WORDS[number]}" for number in range(10)]
        Dataset.from_dict({"text": texts}).to_json(folder / f"train-{shard}.jsonl")
    source = {"path": str(folder), "validation_split": None, "streamed_validation_examples": 3}
    data = make_stream(source | {"streamed_examples": 40}, num_workers=workers, packing="truncate")
    trained = {tuple(row) for row in rows(data)}
    validation = {tuple(row) for batch in data.val_dataloader() for row in batch.input_ids.tolist()}
    assert (len(validation), len(trained)) == (3, 10 * (workers or 1) - 3)
    assert not trained & validation


def test_one_shard_is_enough_for_two_workers(
    make_stream: Callable[..., ELFDataModule], tmp_path: Path
) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    Dataset.from_dict({"text": WORDS}).to_json(folder / "train.jsonl")
    source = {"path": str(folder), "validation_split": None, "streamed_validation_examples": 2}
    data = make_stream(source | {"streamed_examples": 40}, num_workers=2, packing="truncate")
    assert len({tuple(row) for row in rows(data)}) == 10


@pytest.mark.parametrize("packing", ["pack", "truncate"])
def test_parts_share_the_stream(make_stream: Callable[..., ELFDataModule], packing: Any) -> None:
    data = make_stream(packing=packing)

    def part(rank: int, number: int) -> list[tuple[int, ...]]:
        stream = StreamedExamples(data.source, data.preparation.tokenize, 2, rank=rank, world_size=2)
        return [tuple(example.input_ids.tolist()) for example in islice(stream.part(0, number, 2), 10)]

    parts = [part(rank, number) for rank in (0, 1) for number in (0, 1)]
    assert all(len(rows) == 10 for rows in parts)
    if packing == "truncate":  # 40 documents, 10 in each part: all of them, each once
        assert len({row for rows in parts for row in rows}) == 40


def test_a_stream_that_ends_starts_again(make_stream: Callable[..., ELFDataModule]) -> None:
    found = rows(make_stream({"streamed_examples": 100}, packing="truncate"))
    assert len(found) == 100
    assert len({tuple(row) for row in found}) == 40


def test_a_worker_tells_a_mistake_in_one_line(
    make_stream: Callable[..., ELFDataModule], tmp_path: Path
) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    Dataset.from_dict({"input_ids": [[5, 10_000]] * 8}).to_json(folder / "train.jsonl")
    Dataset.from_dict({"input_ids": [[5, 6, 7, 8]] * 8}).to_json(folder / "validation.jsonl")
    data = make_stream({"path": str(folder)}, num_workers=1)
    data.prepare_data()
    batches = iter(data.train_dataloader())
    with pytest.raises(UserError, match=r"^an example of the stream has ids from 5 to 10000; .*") as error:
        next(batches)
    assert "\n" not in str(error.value)
    batches._shutdown_workers()  # type: ignore[attr-defined]  # as Lightning does; the garbage collector would wait


def test_it_is_embedded_like_any_other(make_stream: Callable[..., ELFDataModule]) -> None:
    data = make_stream()
    data.prepare_data()
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert batch.latents.shape == (2, 4, 16)
    assert torch.isfinite(batch.latents).all()
    assert len(data.val_dataloader()) > 0


@pytest.mark.parametrize("setting", ["restrict_vocabulary", "cache_latents"])
def test_what_needs_the_whole_set_is_refused(make_stream: Callable[..., ELFDataModule], setting: str) -> None:
    with pytest.raises(UserError, match=f"data.{setting} needs the whole training set"):
        make_stream(**{setting: True})


def test_a_stream_without_a_row_is_an_error(
    make_stream: Callable[..., ELFDataModule], tmp_path: Path
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    Dataset.from_dict({"text": [""] * 3}).to_json(folder / "train.jsonl")
    data = make_stream(
        source={"path": str(folder), "streamed_validation_examples": 1, "validation_split": None}
    )
    with pytest.raises(UserError, match="is too short for one sequence"):
        next(StreamedExamples(data.source, data.preparation.tokenize, 2).part(0, 0, 1))
