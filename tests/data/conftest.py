"""A DataModule over a few words of text, and a Trainer that records what it is fed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from elf_lightning.data import ELFDataModule, TextFiles
from elf_lightning.encoders import PretrainedEncoder

TEXT = (
    "in the beginning god created the heaven and the earth\n"
    "now the earth was without form\n"
    "and darkness was upon the face of the deep\n"
    "and god said let there be light and there was light\n"
    "god saw the light that it was good\n"
    "and he divided the light from the darkness\n"
    "god called the light day and the darkness he called night\n"
    "there was evening and there was morning the first day\n"
)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` waits for five seconds after each stream of Parquet files, for threads that close them."""
    monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.1)


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """Eight lines, each a document."""
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    return file


@pytest.fixture
def make_data(tmp_path: Path, text_file: Path, tiny_bert: str) -> Callable[..., ELFDataModule]:
    """Makes DataModules that share a cache folder; arguments override small defaults."""

    def make(**overrides: Any) -> ELFDataModule:
        settings: dict[str, Any] = {
            "source": TextFiles(str(text_file), document="line", validation_fraction=0.25),
            "encoder": PretrainedEncoder(tiny_bert, layer=2),
            "max_length": 8,
            "batch_size": 2,
            "cache_dir": str(tmp_path / "cache"),
        }
        return ELFDataModule(**settings | overrides)

    return make
