"""`load_from_checkpoint`: a module with the weights and settings of a checkpoint in any format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from elf_lightning import ELF
from elf_lightning.callbacks import EMA
from elf_lightning.checkpoints import load_model, save_hub, save_official
from elf_lightning.data import ELFDataModule, TextFiles
from elf_lightning.encoders import PretrainedEncoder
from elf_lightning.errors import UserError
from elf_lightning.flow import LogitNormal, RectifiedPath
from elf_lightning.network import NetworkConfig
from elf_lightning.objectives import ELFObjective
from elf_lightning.sampling import SamplingSettings
from elf_lightning.training import ELFModule

NETWORK = NetworkConfig(hidden_size=16, depth=1, num_heads=2, bottleneck_size=4)
PATH, TIMES = RectifiedPath(noise_scale=1.5), LogitNormal(mean=-1.0)
SAMPLING = SamplingSettings(steps=3, guidance=2.0)


class SaveAtEnd(Callback):
    """Saves while both averaged and last weights are known."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == trainer.max_steps:
            trainer.save_checkpoint(self.path)


def make_trainer(folder: Path, *callbacks: Callback) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_steps=2,
        callbacks=list(callbacks),
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, tiny_bert: str) -> ELFDataModule:
    folder = tmp_path_factory.mktemp("data")
    words = ["in", "the", "beginning", "god", "created", "heaven", "and", "earth", "now", "was"]
    lines = [" ".join(words[(3 * i + j) % len(words)] for j in range(20)) for i in range(20)]
    (folder / "corpus.txt").write_text("\n".join(lines))
    return ELFDataModule(
        TextFiles(str(folder / "corpus.txt"), document="line", validation_fraction=0.2),
        PretrainedEncoder(tiny_bert),
        max_length=8,
        batch_size=4,
        restrict_vocabulary=True,
        num_predict_samples=3,
        cache_dir=str(folder / "cache"),
    )


@pytest.fixture(scope="module")
def run_checkpoint(data: ELFDataModule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a run of two steps, with averaged weights and settings other than the defaults."""
    folder = tmp_path_factory.mktemp("run")
    objective = ELFObjective(path=PATH, times=TIMES)
    module = ELFModule.for_data(data, network=NETWORK, objective=objective, sampling=SAMPLING)
    make_trainer(folder, EMA(decay=0.5), SaveAtEnd(folder / "last.ckpt")).fit(module, datamodule=data)
    return folder / "last.ckpt"


@pytest.fixture(params=["run", "hub"])
def checkpoint(request: pytest.FixtureRequest, run_checkpoint: Path, tmp_path: Path) -> Path:
    """The run's checkpoint, and a Hub folder made from it."""
    if request.param == "run":
        return run_checkpoint
    ELF.from_pretrained(run_checkpoint, device="cpu").save_pretrained(tmp_path / "hub")
    return tmp_path / "hub"


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_weights_are_the_averaged_ones(checkpoint: Path, run_checkpoint: Path) -> None:
    weights = ELFModule.load_from_checkpoint(checkpoint).network.state_dict()
    assert equal(weights, load_model(run_checkpoint).weights)
    assert not equal(weights, load_model(run_checkpoint, averaged=False).weights)


def test_the_checkpoint_decides_all_that_it_states(checkpoint: Path, data: ELFDataModule) -> None:
    module = ELFModule.load_from_checkpoint(checkpoint)
    config = module.config
    assert config == load_model(checkpoint).config
    assert (config.network, config.path, config.times, config.sampling) == (NETWORK, PATH, TIMES, SAMPLING)
    assert config.codec is not None
    assert config.codec.kept_ids == data.vocabulary.kept_ids
    assert config.step == 2
    assert (module.eos_id, module.pad_id, module.unknown_id) == (data.eos_id, data.pad_id, data.unknown_id)
    assert module.objective.path.noise_scale == 1.5


def test_settings_given_replace_those_of_the_checkpoint(run_checkpoint: Path) -> None:
    network, sampling = replace(NETWORK, dropout=0.1), SamplingSettings(steps=9)
    module = ELFModule.load_from_checkpoint(run_checkpoint, seed=5, sampling=sampling, network=network)
    assert (module.seed, module.sampling, module.network.config.dropout) == (5, sampling, 0.1)
    assert ELFModule.load_from_checkpoint(str(run_checkpoint)).seed == 0


def test_map_location_is_where_the_module_goes(run_checkpoint: Path) -> None:
    module = ELFModule.load_from_checkpoint(run_checkpoint, map_location="meta")
    assert {parameter.device.type for parameter in module.parameters()} == {"meta"}


def test_a_loaded_module_predicts_as_the_model_does(
    checkpoint: Path, data: ELFDataModule, tmp_path: Path
) -> None:
    module = ELFModule.load_from_checkpoint(checkpoint)
    batches = make_trainer(tmp_path).predict(module, datamodule=data)
    assert batches is not None
    records = [record for batch in batches for record in batch]
    samples = ELF.from_pretrained(checkpoint, device="cpu").samples(3, module.seed)
    assert records == [sample.record() for sample in samples]


def test_a_loaded_module_needs_no_list_of_words(
    run_checkpoint: Path, data: ELFDataModule, tmp_path: Path
) -> None:
    bundle = load_model(run_checkpoint)
    assert bundle.config.codec is not None
    codec, sampling = replace(bundle.config.codec, words=["heaven"]), replace(SAMPLING, known_words=True)
    save_hub(replace(bundle, config=replace(bundle.config, codec=codec, sampling=sampling)), tmp_path / "hub")
    module = ELFModule.load_from_checkpoint(tmp_path / "hub")
    assert make_trainer(tmp_path).predict(module, datamodule=data)


def test_a_loaded_module_trains_on(checkpoint: Path, data: ELFDataModule, tmp_path: Path) -> None:
    module = ELFModule.load_from_checkpoint(checkpoint)
    before = {name: value.clone() for name, value in module.network.state_dict().items()}
    trainer = make_trainer(tmp_path)
    trainer.fit(module, datamodule=data)
    assert trainer.global_step == 2
    assert not equal(before, module.network.state_dict())
    trainer.save_checkpoint(tmp_path / "again.ckpt")
    again = ELFModule.load_from_checkpoint(tmp_path / "again.ckpt")
    assert equal(again.network.state_dict(), module.network.state_dict())


def test_a_checkpoint_without_a_tokenizer_is_refused(run_checkpoint: Path, tmp_path: Path) -> None:
    save_official(load_model(run_checkpoint), tmp_path / "checkpoint_2")
    with pytest.raises(UserError, match=r"does not name its tokenizer and encoder; create .* `for_data`"):
        ELFModule.load_from_checkpoint(tmp_path / "checkpoint_2")


def test_another_network_is_refused_in_one_line(run_checkpoint: Path) -> None:
    wider = replace(NETWORK, hidden_size=32)
    with pytest.raises(UserError, match=r"contains another network: hidden_size 16 \(here 32\)") as refused:
        ELFModule.load_from_checkpoint(run_checkpoint, network=wider)
    assert "\n" not in str(refused.value)
