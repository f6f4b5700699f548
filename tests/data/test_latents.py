"""Latents on disk instead of the encoder."""

from __future__ import annotations

import pickle
import shutil
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from safetensors.torch import load_file, save_file

from elf_lightning.batch import LatentBatch
from elf_lightning.data import ELFDataModule, TextFiles
from elf_lightning.data.latents import LatentsFile
from elf_lightning.encoders import PretrainedEncoder
from elf_lightning.errors import UserError
from elf_lightning.network import ELFNetwork, NetworkConfig
from elf_lightning.objectives import ELFObjective, StepKey


@pytest.fixture
def make_pairs(make_data: Callable[..., ELFDataModule], tmp_path: Path) -> Callable[..., ELFDataModule]:
    """A text-to-text DataModule that drops half of the conditions."""
    from elf_lightning.data import JsonLines

    words = ("light", "day", "night", "heaven", "earth", "deep")
    lines = [f'{{"input": "the {word} now", "output": "god called {word} good"}}\n' for word in words]
    (tmp_path / "pairs.jsonl").write_text("".join(lines))

    def make(**overrides: Any) -> ELFDataModule:
        settings = {"max_condition_length": 3, "label_drop_probability": 0.5, "pad_mode": "eos"}
        return make_data(source=JsonLines(str(tmp_path / "pairs.jsonl")), **settings | overrides)

    return make


def batches(data: ELFDataModule, epoch: int = 0) -> list[LatentBatch]:
    data.prepare_data()
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]


def loss(batch: LatentBatch, vocab_size: int) -> torch.Tensor:
    shape = NetworkConfig(hidden_size=16, depth=1, num_heads=2, bottleneck_size=8)
    network = ELFNetwork(shape, 16, vocab_size, 8, torch.Generator().manual_seed(0))
    objective = ELFObjective()
    draws = objective.draw(batch.latents.shape, StepKey(0, 0, 0, 0), batch.latents.device)
    return objective(network, batch, draws).total


def test_file_round_trip(tmp_path: Path) -> None:
    latents = torch.randn(5, 3, 4).bfloat16()
    file = LatentsFile(tmp_path / "x.latents", (1, 5, 3, 4))
    file.write(latents.split(2))
    assert file.path.stat().st_size == file.num_bytes
    kept = torch.zeros(5, dtype=torch.bool)
    assert torch.equal(file.read([4, 0], kept[:2]), latents[[4, 0]])
    assert torch.equal(pickle.loads(pickle.dumps(file)).read(range(5), kept), latents)


def test_dropped_examples_read_their_own_latents(tmp_path: Path) -> None:
    file = LatentsFile(tmp_path / "train.latents", (2, 4, 2, 3))
    file.write([torch.full((4, 2, 3), float(version)) for version in range(2)])
    read = file.read([3, 1], torch.tensor([False, True]))
    assert read[:, 0, 0].tolist() == [0, 1]


def test_the_encoder_is_not_run(
    make_data: Callable[..., ELFDataModule], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data(cache_latents=True)
    data.prepare_data()
    again = make_data(cache_latents=True)

    def refuse(*_: object) -> None:
        raise AssertionError("the encoder ran")

    monkeypatch.setattr(PretrainedEncoder, "encode", refuse)
    assert all(batch.latents.dtype == torch.float32 for batch in batches(again))
    for batch in again.val_dataloader():
        again.on_after_batch_transfer(batch, 0)


@pytest.mark.parametrize("epoch", [0, 1])
def test_embedded_and_cached_give_the_same_loss(make_pairs: Callable[..., ELFDataModule], epoch: int) -> None:
    embedded, cached = (batches(make_pairs(cache_latents=cache), epoch) for cache in (False, True))
    assert len(embedded) == len(cached) > 0
    for first, second in zip(embedded, cached, strict=True):
        assert torch.equal(first.input_ids, second.input_ids)
        assert torch.equal(first.label_drop, second.label_drop)
        torch.testing.assert_close(first.latents, second.latents, atol=0.02, rtol=0.01)
        torch.testing.assert_close(loss(first, 60), loss(second, 60), atol=1e-3, rtol=1e-3)
    assert any(batch.label_drop.any() for batch in embedded)


def test_cached_latents_are_those_of_the_tokenizers_ids(make_data: Callable[..., ELFDataModule]) -> None:
    full, restricted = (
        batches(make_data(cache_latents=True, restrict_vocabulary=some)) for some in (False, True)
    )
    embedded = batches(make_data(restrict_vocabulary=True))
    for first, second, third in zip(full, restricted, embedded, strict=True):
        assert torch.equal(first.latents, second.latents)
        assert not torch.equal(first.input_ids, second.input_ids)
        assert torch.equal(second.input_ids, third.input_ids)
        torch.testing.assert_close(loss(second, 60), loss(third, 60), atol=1e-3, rtol=1e-3)


def test_narrow_batches_are_cut_from_the_cache(make_pairs: Callable[..., ELFDataModule]) -> None:
    embedded, cached = (
        batches(make_pairs(cache_latents=cache, bucket_step=2, max_length=20)) for cache in (False, True)
    )
    for first, second in zip(embedded, cached, strict=True):
        assert first.latents.shape == second.latents.shape
        assert first.latents.shape[1] == 8
        real = first.attention_mask
        torch.testing.assert_close(first.latents[real], second.latents[real], atol=0.02, rtol=0.01)


def test_the_cache_follows_encoder_statistics_and_length(
    make_data: Callable[..., ELFDataModule], tiny_bert: str
) -> None:
    variants = [
        {},
        {"encoder": PretrainedEncoder(tiny_bert, layer=1)},
        {"max_length": 6},
        {"latent_mean": 0.0, "latent_std": 0.5},
    ]
    files = set()
    for variant in variants:
        data = make_data(cache_latents=True, **variant)
        data.prepare_data()
        files.add(data.store.split("train", torch.device("cpu")).path)
    assert len(files) == len(variants)


def test_the_cache_follows_the_weights(
    make_data: Callable[..., ELFDataModule], tiny_bert: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_bert, folder)

    def latents() -> torch.Tensor:
        data = make_data(
            encoder=PretrainedEncoder(str(folder)), cache_latents=True, latent_mean=0.0, latent_std=1.0
        )
        return batches(data)[0].latents

    before = latents()
    weights = load_file(folder / "model.safetensors")
    save_file({name: value * 1.5 for name, value in weights.items()}, folder / "model.safetensors")
    assert not torch.allclose(latents(), before, atol=0.1)


def test_an_interrupted_cache_is_written_again(
    make_data: Callable[..., ELFDataModule], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def interrupt(self: LatentsFile, latents: object) -> None:
            self.path.write_bytes(b"half")
            raise KeyboardInterrupt

        patch.setattr(LatentsFile, "write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            make_data(cache_latents=True).prepare_data()
    expected, found = batches(make_data()), batches(make_data(cache_latents=True))
    for first, second in zip(expected, found, strict=True):
        torch.testing.assert_close(first.latents, second.latents, atol=0.02, rtol=0.01)


def test_a_full_disk_is_refused_with_both_sizes(
    make_data: Callable[..., ELFDataModule], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100, 99, 1))
    with pytest.raises(UserError, match=r"needs 0.0 GB in .* and 0.0 GB are free; .*data.cache_dir"):
        make_data(cache_latents=True).prepare_data()


class TestLatentStatistics:
    def test_measured_latents_are_normal(self, make_data: Callable[..., ELFDataModule]) -> None:
        data = make_data()
        latents = torch.cat([batch.latents[batch.attention_mask] for batch in batches(data)])
        assert np.array(data.latent_statistics.mean).shape == (16,)
        assert latents.mean(0).abs().max() < 0.1
        assert latents.std() == pytest.approx(1, abs=0.05)

    def test_given_ones_are_used(self, make_data: Callable[..., ELFDataModule]) -> None:
        raw, scaled = (
            batches(make_data(latent_mean=mean, latent_std=std))[0] for mean, std in ((0.0, 1.0), (0.5, 0.2))
        )
        torch.testing.assert_close(scaled.latents, (raw.latents - 0.5) / 0.2)

    def test_they_are_measured_once(
        self, make_data: Callable[..., ELFDataModule], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        measured = make_data().latent_statistics
        monkeypatch.setattr("elf_lightning.data.latents.measure_latent_statistics", None)
        assert make_data().latent_statistics == measured


def test_statistics_are_those_of_the_training_set_whatever_splits_there_are(
    make_data: Callable[..., ELFDataModule], text_file: Path
) -> None:
    class WithTest(TextFiles):
        def load(self, scratch: Path) -> DatasetDict:
            return DatasetDict(super().load(scratch), test=Dataset.from_dict({"text": ["deep " * 16]}))

    source = WithTest(str(text_file), document="line", validation_fraction=0.25)
    assert make_data(source=source).latent_statistics == make_data().latent_statistics


def test_latents_may_be_normalised_as_another_codecs(make_data: Callable[..., ELFDataModule]) -> None:
    codec = replace(make_data().codec, latent_mean=[0.25] * 16, latent_std=0.75)
    data = make_data()
    data.normalise_as(codec)
    assert (data.codec.latent_mean, data.codec.latent_std) == ([0.25] * 16, 0.75)
    given = make_data(latent_mean=0.0, latent_std=1.0)
    given.normalise_as(codec)
    assert given.codec.latent_std == 1.0, "given by the user"
    other = make_data()
    other.normalise_as(replace(codec, encoder={**codec.encoder, "layer": 1}))
    assert other.codec.latent_std == make_data().codec.latent_std, "of another encoder"
