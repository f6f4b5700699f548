"""Lightning's tuners: BatchSizeFinder works, LearningRateFinder is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder

from elf_lightning.data import ELFDataModule, TextFiles
from elf_lightning.encoders import PretrainedEncoder
from elf_lightning.errors import UserError
from elf_lightning.network import NetworkConfig
from elf_lightning.optim import MuonSettings
from elf_lightning.training import ELFModule

BASE_RATE = 0.064


@pytest.fixture
def data(tmp_path: Path, tiny_bert: str) -> ELFDataModule:
    (tmp_path / "corpus.txt").write_text("in the beginning god created the heaven and the earth\n" * 80)
    source = TextFiles(str(tmp_path / "corpus.txt"), document="line", validation_fraction=0.2)
    return ELFDataModule(
        source, PretrainedEncoder(tiny_bert), max_length=8, batch_size=2, cache_dir=str(tmp_path / "cache")
    )


@pytest.fixture
def module(data: ELFDataModule) -> ELFModule:
    return ELFModule.for_data(data, network=NetworkConfig(16, 1, 2, 8), optimizer=MuonSettings(BASE_RATE))


def trainer(folder: Path, *callbacks: Callback) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_steps=3,
        log_every_n_steps=1,
        callbacks=list(callbacks),
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def test_batch_size_finder_scales_the_learning_rate(
    module: ELFModule, data: ELFDataModule, tmp_path: Path
) -> None:
    finder = BatchSizeFinder(mode="power", steps_per_trial=1, init_val=2, max_trials=2)
    run = trainer(tmp_path, finder)
    run.fit(module, datamodule=data)
    assert run.global_step == 3
    assert data.batch_size == finder.optimal_batch_size == 4
    assert run.optimizers[0].param_groups[0]["initial_lr"] == pytest.approx(BASE_RATE * 4 / 256)


def test_learning_rate_finder_is_refused_in_one_line(
    module: ELFModule, data: ELFDataModule, tmp_path: Path
) -> None:
    with pytest.raises(
        UserError, match=r"^trainer.callbacks: LearningRateFinder is not supported"
    ) as refused:
        trainer(tmp_path, LearningRateFinder()).fit(module, datamodule=data)
    assert "model.optimizer.base_learning_rate" in str(refused.value)
    assert "\n" not in str(refused.value)
