"""`elf predict` keeps the texts that it has generated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from elf_lightning.callbacks import SampleWriter
from elf_lightning.cli import main

OUTPUT = Path("runs/tiny/predictions.jsonl")


@pytest.fixture
def predict(write_config: Callable[..., str]) -> Callable[..., int]:
    """Predicts in batches of 4, with the checkpoint of a short run."""
    config = write_config(trainer__max_steps=1, trainer__limit_val_batches=0)
    assert main(["fit", "--config", config]) == 0
    return lambda *words: main(["predict", "--config", config, "--ckpt_path", "runs/tiny", *words])


def test_texts_are_written_as_batches_come(
    predict: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert predict("--trainer.callbacks", "[EMA]") == 0, "a SampleWriter is put in"
    whole = OUTPUT.read_text()
    assert [json.loads(line)["index"] for line in whole.splitlines()] == [0, 1, 2, 3, 4]
    assert [*OUTPUT.parent.glob("predictions*")] == [OUTPUT]

    write, counts = SampleWriter.write_on_batch_end, []
    kept = OUTPUT.with_name("predictions.jsonl.incomplete")

    def stop(self: SampleWriter, *given: Any) -> None:
        write(self, *given)
        counts.append(len(kept.read_text().splitlines()))
        raise ValueError("stopped")

    OUTPUT.write_text("earlier")
    monkeypatch.setattr(SampleWriter, "write_on_batch_end", stop)
    with pytest.raises(ValueError, match="stopped"):
        predict()
    assert counts == [4]
    assert (OUTPUT.read_text(), kept.read_text().splitlines()) == ("earlier", whole.splitlines()[:4])
    assert f"the first 4 texts are in '{kept.resolve()}'" in capfd.readouterr().err


def test_an_output_that_cannot_be_written_is_reported_before_any_text(
    predict: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("elf_lightning.generation.TextGenerator.sample_batch", None)
    writer = {"class_path": "SampleWriter", "init_args": {"output": "lines.txt/predictions.jsonl"}}
    capfd.readouterr()
    assert predict("--trainer.callbacks", json.dumps([writer])) == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith("elf predict: 'lines.txt/predictions.jsonl' cannot be written: Not a directory")
