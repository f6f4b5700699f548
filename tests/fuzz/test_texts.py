"""A wrong corpus, or file of texts, is one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from elf_lightning.data import JsonLines, TextFiles
from elf_lightning.data.prepare import Preparation
from elf_lightning.data.tokenize import Tokenize
from elf_lightning.encoders import read_tokenizer

ROWS = [
    [{"text": f"let there be light {number}", "seed": number % 2, "setting": "a"} for number in range(8)],
    [{"input": f"light {number}", "output": "there was light"} for number in range(8)],
    [{"input_ids": [3, 4, 5, 6 + number]} for number in range(8)],
    [{"condition_input_ids": [3, 4], "input_ids": [5, 6, 7]} for _ in range(8)],
]
TEXT = b"let there be light\n\nand there was light\n" * 4


def write_texts(nearly: Any) -> None:
    """JSON lines and a text, both nearly right."""
    rows = nearly.one_of(*ROWS)
    if nearly.one_of(0, 1, 1, 1) == 0:
        lines = nearly.damaged("\n".join(map(json.dumps, rows)).encode())
    else:
        changed = nearly.changed(rows)
        lines = b"\n".join(map(nearly.as_json, changed if isinstance(changed, list) else [changed]))
    sound = nearly.one_of([], rows * 3)  # what comes late is read by another process
    Path("texts.jsonl").write_bytes(b"\n".join([*(json.dumps(row).encode() for row in sound), lines]))
    Path("texts.txt").write_bytes(nearly.damaged(TEXT))


def test_corpora(fuzz: Callable[..., None], works_or_one_line: Callable[..., None], tiny_t5: str) -> None:
    tokenizer = read_tokenizer(tiny_t5)

    def check(nearly: Any) -> None:
        shutil.rmtree("cache", ignore_errors=True)
        write_texts(nearly)
        unit, condition = nearly.one_of("line", "block", "file"), nearly.one_of(None, 4)
        packing = nearly.one_of("pack", "sentences", "truncate", "wrap")
        source = nearly.one_of(
            JsonLines("texts.jsonl", validation_fraction=0.25),
            TextFiles("texts.txt", unit, validation_fraction=0.25),
        )

        def prepare() -> None:
            tokenize = Tokenize(tokenizer, tokenizer.eos_token_id, packing, 8, condition)
            prepared = Preparation(source, tokenize, Path("cache"))
            prepared.run()
            prepared.kept_ids({0, 1, 2})
            prepared.summary()
            examples = prepared.examples("train")
            examples.read(range(len(examples)))

        works_or_one_line(prepare)

    fuzz(check, few=25, many=1_000)


def test_files_of_texts_and_references(
    fuzz: Callable[..., None], works_or_one_line: Callable[..., None], tiny_scoring_model: str
) -> None:
    scored = ["--scoring-model", tiny_scoring_model, "--context-length", "16", "--device", "cpu"]

    def check(nearly: Any) -> None:
        write_texts(nearly)
        file, other = nearly.one_of(["texts.jsonl", "texts.txt"], ["texts.txt", "texts.jsonl"])
        works_or_one_line(["eval-text", file, *nearly.one_of(scored, ["--references", other])])

    fuzz(check, few=25, many=1_000)


def test_prompts(fuzz: Callable[..., None], works_or_one_line: Callable[..., None], hub: Path) -> None:
    words = ["sample", "--checkpoint", str(hub), "--steps", "1", "--device", "cpu", "--prompt-file"]

    def check(nearly: Any) -> None:
        Path("prompts.txt").write_bytes(nearly.damaged(b"in the beginning\ngod created\n"))
        works_or_one_line([*words, "prompts.txt"])

    fuzz(check, few=10, many=200)
