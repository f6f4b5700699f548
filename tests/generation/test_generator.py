"""Texts on the ranks of a Trainer, with repetition controlled."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from elf_lightning.callbacks import SampleLogger
from elf_lightning.data import ELFDataModule, TextFiles
from elf_lightning.encoders import PretrainedEncoder
from elf_lightning.errors import UserError
from elf_lightning.generation.text_generator import TextGenerator
from elf_lightning.network import NetworkConfig
from elf_lightning.sampling import SamplingSettings
from elf_lightning.training import ELFModule

WORDS = "in the beginning god created heaven and earth now was without form darkness upon face of deep"
CONTROLLED = SamplingSettings(steps=3, repetition_control=3.0)


@pytest.fixture
def data(tmp_path: Path, tiny_t5: str) -> ELFDataModule:
    draw = random.Random(0)
    lines = [" ".join(draw.choices(WORDS.split(), k=11)) for _ in range(20)]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    return ELFDataModule(
        TextFiles(str(tmp_path / "lines.txt"), document="line", validation_fraction=0.2),
        PretrainedEncoder(tiny_t5),
        max_length=12,
        batch_size=4,
        num_predict_rows=5,
        cache_dir=str(tmp_path / "cache"),
    )


@pytest.fixture
def model(data: ELFDataModule) -> Callable[[SamplingSettings], ELFModule]:
    """Makes a module that says something without training."""

    def make(sampling: SamplingSettings, **network: Any) -> ELFModule:
        module = ELFModule.for_data(data, network=NetworkConfig(16, 2, 2, 8, **network), sampling=sampling)
        generator = torch.Generator().manual_seed(1)
        torch.nn.init.normal_(module.network.latent_head.linear.weight, std=0.3, generator=generator)
        torch.nn.init.normal_(module.network.token_head.unembed.weight, std=0.5, generator=generator)
        return module

    return make


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_steps=2,
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


@pytest.fixture
def generator(model: Any, data: ELFDataModule, trainer: Trainer) -> TextGenerator:
    """A generator that measures repetition on 80 texts."""
    module = model(CONTROLLED)
    trainer.validate(module, datamodule=data, verbose=False)
    made: TextGenerator = module.text_generator(80)
    return made


def texts(batches: Any) -> list[str]:
    return [row["text"] for batch in batches for row in batch]


def test_prediction_measures_repetition_first(model: Any, data: ELFDataModule, trainer: Trainer) -> None:
    steered = texts(trainer.predict(model(CONTROLLED), datamodule=data))
    assert len(steered) == 5
    assert steered == texts(trainer.predict(model(CONTROLLED), datamodule=data))
    plain = replace(CONTROLLED, repetition_control=0.0)
    assert steered != texts(trainer.predict(model(plain), datamodule=data))


def test_direction_is_measured_once_for_each_way(
    generator: TextGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []
    monkeypatch.setattr(
        "elf_lightning.generation.text_generator.rank_zero_info", lambda told: measured.append(len(measured))
    )
    ways = [CONTROLLED, replace(CONTROLLED, repetition_control=1.5), replace(CONTROLLED, steps=2)]
    first, weaker, other = (generator.sampler_for(way, together=True) for way in ways)
    assert measured == [0, 1]
    assert first.repetition_direction is weaker.repetition_direction
    assert first.repetition_direction is not None and other.repetition_direction is not None
    assert not first.repetition_direction.equal(other.repetition_direction)
    assert [one.settings for one in (first, weaker, other)] == ways


def test_nothing_is_measured_for_no_texts(generator: TextGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an interrupted evaluation has done is not prepared for again."""
    monkeypatch.setattr(TextGenerator, "sampler_for", None)
    assert list(generator.generate([], seed=0)) == []


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_find_the_direction_of_one(
    generator: TextGenerator, monkeypatch: pytest.MonkeyPatch, ranks: int
) -> None:
    alone = generator.sampler_for(None, together=True).repetition_direction
    shares: list[Any] = []

    def gather(items: list[Any]) -> list[Any]:
        shares.append(items)
        return [item for share in shares for item in share]

    monkeypatch.setattr("elf_lightning.generation.text_generator.gathered", gather)
    found = None
    for rank in range(ranks):
        one = replace(generator, rank=rank, world_size=ranks, _directions={})
        try:
            found = one.sampler_for(None, together=True).repetition_direction
        except UserError:  # the first ranks see too little alone
            continue
    assert found is not None and alone is not None
    assert sum(map(len, shares)) == 80
    torch.testing.assert_close(found, alone)


def test_one_rank_measures_without_the_others(
    generator: TextGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first rank draws the report alone; waiting for others there would be for ever."""
    monkeypatch.setattr("elf_lightning.generation.text_generator.gathered", None)
    one = replace(generator, rank=0, world_size=2)
    (sample,) = one.trajectory([3], 0, CONTROLLED, [0, 2])
    assert len(sample.stages) == 2


def test_control_while_training_is_refused_before_the_first_step(
    model: Any, data: ELFDataModule, trainer: Trainer
) -> None:
    for callback in (SampleLogger(1), SampleLogger(1, settings=CONTROLLED)):
        module = model(CONTROLLED if callback.settings is None else SamplingSettings(steps=2))
        trainer.callbacks = [callback]  # type: ignore[attr-defined]
        with pytest.raises(UserError, match="direction of repetition changes while a model trains"):
            trainer.fit(module, datamodule=data)
        assert module.global_step == 0


def test_network_that_cannot_be_steered_is_told_before_measuring(
    model: Any, data: ELFDataModule, trainer: Trainer
) -> None:
    module = model(CONTROLLED, self_conditioning=False)
    with pytest.raises(UserError, match="no self-conditioning to steer"):
        trainer.predict(module, datamodule=data)


def test_evaluation_with_and_without_control(
    model: Any, data: ELFDataModule, trainer: Trainer, tmp_path: Path, tiny_scoring_model: str
) -> None:
    from elf_lightning.evaluation import EvaluationSettings
    from elf_lightning.metrics import ScoringModelSettings

    module = model(replace(CONTROLLED, repetition_control=0.0))
    scoring_model = ScoringModelSettings(tiny_scoring_model, context_length=32)
    module.evaluation = EvaluationSettings(
        sweep={"repetition_control": [0, 3]}, num_samples=4, seeds=[0], scoring_model=scoring_model
    )
    trainer.test(module, datamodule=data, verbose=False)
    lines = (tmp_path / "samples.jsonl").read_text().splitlines()
    said: dict[str, list[str]] = {}
    for row in map(json.loads, lines):
        said.setdefault(row["setting"], []).append(row["text"])
    plain, steered = said.values()
    assert list(said)[1].endswith("repetition control 3")
    assert plain != steered
