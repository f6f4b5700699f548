"""ELFModule with the Trainer API, as in a notebook."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from elf_lightning.batch import LatentBatch
from elf_lightning.callbacks import EMA
from elf_lightning.data import ELFDataModule, TextFiles
from elf_lightning.encoders import PretrainedEncoder
from elf_lightning.network import NetworkConfig
from elf_lightning.training import ELFModule


@pytest.fixture
def data(tmp_path: Path, tiny_bert: str) -> ELFDataModule:
    words = ["in", "the", "beginning", "god", "created", "heaven", "and", "earth", "now", "was"]
    lines = [" ".join(words[(3 * i + j) % len(words)] for j in range(20)) for i in range(20)]
    (tmp_path / "corpus.txt").write_text("\n".join(lines))
    source = TextFiles(str(tmp_path / "corpus.txt"), document="line", validation_fraction=0.2)
    return ELFDataModule(
        source, PretrainedEncoder(tiny_bert), max_length=8, batch_size=4, cache_dir=str(tmp_path / "cache")
    )


def module(data: ELFDataModule) -> ELFModule:
    return ELFModule.for_data(data, network=NetworkConfig(16, 2, 2, 8), seed=3)


def trainer(folder: Path, steps: int = 2) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_steps=steps,
        gradient_clip_val=1.0,
        callbacks=[EMA(decay=0.9)],
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def test_sizes_follow_from_the_data(data: ELFDataModule) -> None:
    network = module(data).network
    assert (network.latent_size, network.vocab_size, network.max_length) == (16, data.vocab_size, 8)


def test_validation_draws_are_fixed(data: ELFDataModule, tmp_path: Path) -> None:
    model = module(data)
    one, same = (trainer(tmp_path).validate(model, datamodule=data, verbose=False) for _ in range(2))
    assert one == same
    assert {"val/loss", "val/denoise_loss", "val/decode_loss", "val/clean_decode_accuracy"} <= one[0].keys()


def test_tokens_outside_of_the_vocabulary_are_never_decoded_correctly(
    data: ELFDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = module(data)
    step, seen = model.validation_step, list[Tensor]()
    model.unknown_id = data.tokenizer.convert_tokens_to_ids("god")

    def validate(batch: LatentBatch, batch_idx: int) -> None:
        seen.append(batch.input_ids[batch.loss_mask])
        monkeypatch.setattr(model.network, "decode_tokens", lambda *_: batch.input_ids)
        step(batch, batch_idx)

    monkeypatch.setattr(model, "validation_step", validate)
    (numbers,) = trainer(tmp_path).validate(model, datamodule=data, verbose=False)
    known = (torch.cat(seen) != model.unknown_id).float().mean().item()
    assert 0.5 < known < 1
    assert numbers["val/clean_decode_accuracy"] == pytest.approx(known)


def test_predict_returns_records_and_is_deterministic(data: ELFDataModule, tmp_path: Path) -> None:
    model = module(data)
    run = trainer(tmp_path)
    run.fit(model, datamodule=data)
    batches = run.predict(model, datamodule=data)
    assert batches is not None
    records = [record for batch in batches for record in batch]
    assert len(records) == data.num_predict_samples
    again = trainer(tmp_path).predict(model, datamodule=data)
    assert again is not None
    assert records == [record for batch in again for record in batch]


def test_the_generator_is_deleted_after_predict(data: ELFDataModule, tmp_path: Path) -> None:
    model = module(data)
    trainer(tmp_path).predict(model, datamodule=data)
    assert not hasattr(model, "_generator")


def test_training_changes_every_parameter(data: ELFDataModule, tmp_path: Path) -> None:
    model = module(data)
    before: dict[str, Tensor] = {name: p.detach().clone() for name, p in model.network.named_parameters()}
    trainer(tmp_path, steps=6).fit(model, datamodule=data)
    still = [name for name, p in model.network.named_parameters() if torch.equal(p, before[name])]
    assert still == []
