"""`elf prepare`."""

from __future__ import annotations

from pathlib import Path

import pytest

from elf_lightning.cli import main
from elf_lightning.encoders import PretrainedEncoder


@pytest.fixture
def options(tiny_bert: str, tmp_path: Path) -> list[str]:
    (tmp_path / "text.txt").write_text("in the beginning god created the heaven and the earth\n" * 20)
    settings = {
        "data.source": "TextFiles",
        "data.source.path": str(tmp_path / "text.txt"),
        "data.source.document": "line",
        "data.encoder": "PretrainedEncoder",
        "data.encoder.name_or_path": tiny_bert,
        "data.max_length": "8",
        "data.batch_size": "4",
        "data.cache_dir": str(tmp_path / "cache"),
        "model.network.hidden_size": "16",
        "model.network.depth": "1",
        "model.network.num_heads": "2",
        "trainer.accelerator": "cpu",
        "trainer.default_root_dir": str(tmp_path / "run"),
    }
    return [f"--{name}={value}" for name, value in settings.items()]


def test_it_tokenises_and_does_not_train(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", *options]) == 0
    assert "train      26 sequences of at most 8 tokens" in capsys.readouterr().out
    assert list((tmp_path / "cache").glob("tokens-*"))
    assert not list((tmp_path / "cache").glob("latents-*"))
    assert not (tmp_path / "run").exists()


def test_embed_writes_the_latents_that_training_reads(
    options: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert main(["prepare", "--embed", *options]) == 0
    assert "latents    0.00 GB for train" in capsys.readouterr().out

    def refuse(*_: object) -> None:
        raise AssertionError("the encoder ran")

    monkeypatch.setattr(PretrainedEncoder, "encode", refuse)
    quick = ["--data.cache_latents=true", "--trainer.max_steps=1", "--trainer.limit_val_batches=1"]
    assert main(["fit", *options, *quick]) == 0


def test_a_missing_corpus_is_reported(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", *options, "--data.source.path=/no/such/corpus"]) == 2
    assert "source path '/no/such/corpus': there is no such file" in capsys.readouterr().err


def test_a_mistake_far_down_a_file_is_reported(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lines.jsonl").write_text('{"text": "in the beginning"}\n' * 30 + '{"text": 5}\n')
    source = ["--data.source=JsonLines", f"--data.source.path={tmp_path / 'lines.jsonl'}"]
    assert main(["prepare", *[one for one in options if "source" not in one], *source]) == 2
    assert "line 31 has something other than a string as 'text'" in capsys.readouterr().err
