"""A wrong folder of a tokenizer and an encoder is one line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from elf_lightning.data import ELFDataModule, TextFiles
from elf_lightning.encoders import PretrainedEncoder


@pytest.mark.parametrize("model_folder", ["tiny_t5", "tiny_bert"])
def test_encoder_folders(
    fuzz: Callable[..., None],
    works_or_one_line: Callable[..., None],
    model_folder: str,
    request: pytest.FixtureRequest,
) -> None:
    whole = Path(request.getfixturevalue(model_folder))
    files = sorted(path.name for path in whole.iterdir())
    Path("lines.txt").write_text("let there be light\nand there was light\n" * 4)

    def embed() -> None:
        source, encoder = (
            TextFiles("lines.txt", "line", validation_fraction=0.25),
            PretrainedEncoder("encoder"),
        )
        data = ELFDataModule(source, encoder, max_length=8)
        ids = data.preparation.tokenize({"text": ["let there be light", "\0 é"]})["input_ids"]
        encoder(torch.tensor([[*chain(*ids)][:4]]), None)

    def check(nearly: Any) -> None:
        shutil.rmtree("encoder", ignore_errors=True)
        shutil.copytree(whole, "encoder")
        nearly.file(Path("encoder", nearly.one_of(*files)))
        works_or_one_line(embed)

    fuzz(check, few=25, many=1_000)
