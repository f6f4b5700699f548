"""What docs/bible.md says of the model, measured on a real run (eight minutes on two cores)."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from elf_lightning import ELF
from elf_lightning.cli import main
from elf_lightning.data import WebBible

CONFIG = Path(__file__).parents[1] / "conf" / "bible.yaml"
DECODED, KNOWN_WORDS = 0.95, 0.88


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


@pytest.mark.slow
def test_training_from_nothing_gives_known_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config", str(CONFIG)]) == 0
    (log,) = Path("runs/bible/csv").glob("version_*/metrics.csv")
    with log.open() as file:
        rows = list(csv.DictReader(file))
    validation = {
        name: [float(row[f"val/{name}"]) for row in rows if row[f"val/{name}"]]
        for name in ("denoise_loss", "decode_loss", "clean_decode_accuracy")
    }
    assert validation["denoise_loss"][-1] < validation["denoise_loss"][0]
    assert validation["decode_loss"][-1] < validation["decode_loss"][0]
    assert validation["clean_decode_accuracy"][-1] >= DECODED

    texts = ELF.from_pretrained("runs/bible").generate(128, seed=0)
    splits = WebBible(divine_name="the Lord", first_book=18).load(tmp_path).values()
    corpus = {word for split in splits for text in split["text"] for word in words(text)}
    sampled = [word for text in texts for word in words(text)]
    assert sum(word in corpus for word in sampled) / len(sampled) >= KNOWN_WORDS
