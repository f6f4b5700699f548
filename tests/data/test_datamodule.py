"""The DataModule as Lightning uses it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from elf_lightning.batch import LatentBatch, LatentPromptBatch
from elf_lightning.data import ELFDataModule, HubDataset, JsonLines
from elf_lightning.data.prepare import Preparation
from elf_lightning.data.resume import VERSION, Position
from elf_lightning.data.sampler import EpochSampler, ShardSampler
from elf_lightning.encoders import PretrainedEncoder, TokenTableEncoder
from elf_lightning.errors import UserError

Make = Callable[..., ELFDataModule]


class Recorder(LightningModule):
    """Keeps the ids of every batch it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[list[list[int]]] = []

    def training_step(self, batch: LatentBatch, batch_idx: int) -> Tensor:
        self.seen.append(batch.input_ids.tolist())
        return self.weight * batch.latents.mean()

    def validation_step(self, batch: LatentBatch, batch_idx: int) -> None: ...

    def predict_step(self, batch: LatentPromptBatch, batch_idx: int) -> LatentPromptBatch:
        return batch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class StepCounter(Recorder):
    """Asks for the number of steps beforehand, as a schedule does; Lightning then makes loaders early."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        assert self.trainer.estimated_stepping_batches > 0
        return super().configure_optimizers()


class SaveAfter(Callback):
    """Saves a checkpoint after so many batches and stops there."""

    def __init__(self, batches: int, path: Path) -> None:
        self.batches = batches
        self.path = path

    def on_train_batch_end(self, trainer: Trainer, module: Recorder, *_: object) -> None:
        if len(module.seen) == self.batches:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


def trainer(tmp_path: Path, **settings: Any) -> Trainer:
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": 3,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": tmp_path,
        "use_distributed_sampler": False,
    }
    return Trainer(**defaults | settings)


def fit(data: ELFDataModule, tmp_path: Path, ckpt_path: Path | None = None, **settings: Any) -> Recorder:
    module = Recorder()
    trainer(tmp_path, **settings).fit(module, data, ckpt_path=ckpt_path, weights_only=False)
    return module


class TestResume:
    # The tiny corpus has 7 batches an epoch: stops in the middle of the first and of the second epoch, at an
    # epoch's last batch, and just after it; with accumulation, at optimizer steps.
    @pytest.mark.parametrize(
        ("workers", "accumulation", "stop"),
        [(0, 1, stop) for stop in (1, 4, 7, 8, 13, 14)] + [(2, 3, stop) for stop in (3, 6, 7, 10, 14)],
    )
    def test_a_run_that_was_stopped_sees_what_the_other_saw(
        self, make_data: Make, tmp_path: Path, stop: int, workers: int, accumulation: int
    ) -> None:
        settings = {"accumulate_grad_batches": accumulation, "limit_val_batches": 0}
        data = {"num_workers": workers, "max_length": 4}
        whole = fit(make_data(**data), tmp_path, **settings).seen
        assert len(whole) == 21
        path = tmp_path / "stopped.ckpt"
        with pytest.raises(SystemExit):
            fit(make_data(**data), tmp_path, callbacks=[SaveAfter(stop, path)], **settings)
        resumed = make_data(**data)
        assert fit(resumed, tmp_path, ckpt_path=path, **settings).seen == whole[stop:]

    @pytest.mark.parametrize("stop", [3, 8])
    def test_a_stopped_run_over_a_stream_continues_with_the_next_sequence(
        self, make_data: Make, text_file: Path, tmp_path: Path, stop: int
    ) -> None:
        folder = tmp_path / "shards"
        folder.mkdir()
        lines = text_file.read_text().splitlines()
        for shard in range(2):
            Dataset.from_dict({"text": lines[shard::2]}).to_json(folder / f"train-{shard}.jsonl")
        source = HubDataset(
            str(folder), streamed_examples=12, streamed_validation_examples=1, shuffle_buffer=4
        )
        data = {"source": source, "num_workers": 2, "max_length": 4}
        settings = {"limit_val_batches": 0, "max_epochs": 2}
        whole = fit(make_data(**data), tmp_path, **settings).seen
        path = tmp_path / "stopped.ckpt"
        with pytest.raises(SystemExit):
            fit(make_data(**data), tmp_path, callbacks=[SaveAfter(stop, path)], **settings)
        assert len(whole) == 12
        assert fit(make_data(**data), tmp_path, ckpt_path=path, **settings).seen == whole[stop:]

    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_finished_run_goes_on_with_the_next_epoch(
        self, make_data: Make, tmp_path: Path, workers: int
    ) -> None:
        whole = fit(make_data(num_workers=workers), tmp_path, max_epochs=3).seen
        module, first = Recorder(), trainer(tmp_path, max_epochs=2)
        first.fit(module, make_data(num_workers=workers))
        first.save_checkpoint(tmp_path / "finished.ckpt")
        more = fit(
            make_data(num_workers=workers), tmp_path, ckpt_path=tmp_path / "finished.ckpt", max_epochs=3
        )
        assert module.seen + more.seen == whole

    def test_batches_of_another_size_are_refused(self, make_data: Make, tmp_path: Path) -> None:
        path = tmp_path / "stopped.ckpt"
        with pytest.raises(SystemExit):
            fit(make_data(), tmp_path, callbacks=[SaveAfter(1, path)])
        with pytest.raises(
            UserError, match=r"batch_size 1 x 1 device\(s\) is 1 sequences .* batches of 2"
        ) as error:
            fit(make_data(batch_size=1), tmp_path, ckpt_path=path)
        assert "\n" not in str(error.value)
        other = trainer(tmp_path).predict(
            Recorder(), make_data(batch_size=1), ckpt_path=path, weights_only=False
        )
        assert other

    def test_the_same_batches_on_more_devices_go_on(
        self, make_data: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = make_data(max_length=4, batch_size=1)
        data.prepare_data()
        data.load_state_dict({"version": VERSION, "epoch": 0, "batch": 3, "examples_per_batch": 2})
        with pytest.raises(UserError, match="batch_size 1 x 1 device"):
            data.train_dataloader()
        monkeypatch.setattr(ELFDataModule, "_rank", lambda _: (0, 2))
        assert len(list(data.train_dataloader())) == 4

    def test_a_checkpoint_of_another_order_warns_in_one_line(self, make_data: Make) -> None:
        data = make_data(max_length=4)
        data.prepare_data()
        with pytest.warns(UserWarning, match="shuffled differently") as warnings:
            data.load_state_dict({"epoch": 1, "batch": 3, "batch_rows": 2})
        assert "\n" not in str(warnings[0].message)
        assert data.position == Position(1, 3, 2)
        assert len(list(data.train_dataloader())) == 4

    def test_validation_in_between_changes_nothing(self, make_data: Make, tmp_path: Path) -> None:
        settings = {"val_check_interval": 2, "max_epochs": 2}
        data = {"max_length": 4}
        whole = fit(make_data(**data), tmp_path, **settings).seen
        path = tmp_path / "stopped.ckpt"

        class SaveInValidation(Callback):
            def on_validation_end(self, trainer: Trainer, module: Recorder) -> None:
                if len(module.seen) == 4:
                    trainer.save_checkpoint(path)

        fit(make_data(**data), tmp_path, callbacks=[SaveInValidation()], **settings)
        assert fit(make_data(**data), tmp_path, ckpt_path=path, **settings).seen == whole[4:]


class TestBatches:
    def test_latents_come_from_the_encoder(self, make_data: Make, tiny_bert: str) -> None:
        data = make_data(latent_mean=0.0, latent_std=1.0)
        data.prepare_data()
        batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
        everything = torch.ones(2, 8, 8, dtype=torch.bool)
        expected = PretrainedEncoder(tiny_bert, layer=2)(batch.input_ids, everything)
        torch.testing.assert_close(batch.latents, expected)
        assert batch.loss_mask.all()

    def test_the_runs_precision_reaches_the_encoder(
        self, make_data: Make, tmp_path: Path, tiny_bert: str
    ) -> None:
        seen: set[torch.dtype] = set()

        class Watched(PretrainedEncoder):
            def encode(self, input_ids: Tensor, mask: Tensor) -> Tensor:
                seen.add(
                    torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
                )
                return super().encode(input_ids, mask)

        for precision in ("bf16-mixed", "32-true"):
            data = make_data(encoder=Watched(tiny_bert))
            fit(data, tmp_path, precision=precision, max_epochs=1)
        assert seen == {torch.bfloat16, torch.float32}

    def test_ranks_share_the_examples(self, make_data: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        data = make_data(max_length=4)
        data.prepare_data()

        def loaders(world_size: int) -> list[list[list[list[int]]]]:
            found = []
            for rank in range(world_size):
                monkeypatch.setattr(ELFDataModule, "_rank", lambda _, rank=rank: (rank, world_size))
                found.append([batch.input_ids.tolist() for batch in data.train_dataloader()])
            return found

        alone, both = loaders(1)[0], loaders(2)
        assert len(both[0]) == len(both[1]) == len(alone) // 2
        assert [batch for pair in zip(*both, strict=True) for batch in pair] == alone[: 2 * len(both[0])]

    def test_lightning_does_not_shard_them_again(self, make_data: Make, tmp_path: Path) -> None:
        ddp = trainer(tmp_path, strategy="ddp", devices=1, max_epochs=2, use_distributed_sampler=True)
        module, data = Recorder(), make_data(max_length=4)
        try:
            ddp.fit(module, data)
            assert type(ddp.train_dataloader.sampler) is EpochSampler
            assert type(ddp.val_dataloaders.sampler) is ShardSampler
            ddp.predict(module, data)
            assert type(ddp.predict_dataloaders.batch_sampler.sampler) is ShardSampler
        finally:
            torch.distributed.destroy_process_group()
        assert module.seen == fit(make_data(max_length=4), tmp_path, max_epochs=2).seen

    @pytest.mark.parametrize("encoder", ["tiny_t5", "tiny_bert"])
    @pytest.mark.parametrize("kind", [PretrainedEncoder, TokenTableEncoder])
    def test_every_encoder_trains(
        self, make_data: Make, tmp_path: Path, request: pytest.FixtureRequest, encoder: str, kind: Any
    ) -> None:
        data = make_data(encoder=kind(request.getfixturevalue(encoder)))
        assert fit(data, tmp_path, max_epochs=1).seen

    def test_unconditional_prompts_are_empty(self, make_data: Make, tmp_path: Path) -> None:
        data = make_data(num_predict_samples=3, restrict_vocabulary=True)
        batches = trainer(tmp_path).predict(Recorder(), data)
        assert [batch.index.tolist() for batch in batches] == [[0, 1], [2]]
        assert batches[0].latents.shape == (2, 8, 16)
        assert not batches[0].latents.any()
        assert not batches[0].condition_mask.any()
        assert (batches[0].input_ids == data.pad_id).all()


class TestTextToText:
    @pytest.fixture
    def make_pairs(self, make_data: Make, tmp_path: Path) -> Make:
        words = ("light", "day", "night", "heaven", "earth", "deep")
        lines = [f'{{"input": "the {word} now", "output": "god called {word} good"}}\n' for word in words]
        (tmp_path / "pairs.jsonl").write_text("".join(lines))
        source = JsonLines(str(tmp_path / "pairs.jsonl"), validation_fraction=0.34)
        return lambda **settings: make_data(
            **{"source": source, "max_condition_length": 3, "pad_mode": "eos"} | settings
        )

    def test_prompts_hold_the_validation_conditions(self, make_pairs: Make, tmp_path: Path) -> None:
        data = make_pairs(num_predict_samples=5)
        (batch,) = trainer(tmp_path).predict(Recorder(), data)
        words = [data.tokenizer.decode(row[:3]) for row in batch.input_ids]
        assert words == ["the earth now", "the deep now"]
        assert batch.condition_mask.sum(1).tolist() == [3, 3]
        assert not batch.latents[:, 3:].any()
        whole = data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0)
        torch.testing.assert_close(batch.latents[:, :3], whole.latents[:, :3])

    def test_label_drop_depends_on_seed_epoch_and_example_alone(self, make_pairs: Make) -> None:
        def dropped(epoch: int, **settings: Any) -> dict[str, bool]:
            data = make_pairs(label_drop_probability=0.5, **settings)
            data.prepare_data()
            loader = data.train_dataloader()
            loader.sampler.set_epoch(epoch)
            return {
                data.tokenizer.decode(ids): drop
                for batch in loader
                for ids, drop in zip(batch.input_ids, batch.label_drop.tolist(), strict=True)
            }

        first = dropped(0)
        assert dropped(0, batch_size=4) == dropped(0, num_workers=2) == first
        drops = [tuple(dropped(epoch).values()) for epoch in range(8)]
        assert len(set(drops)) > 1
        assert dropped(0, seed=1) != first or dropped(1, seed=1) != dropped(1)

    def test_validation_conditions_are_never_dropped(self, make_pairs: Make) -> None:
        data = make_pairs(label_drop_probability=1.0)
        data.prepare_data()
        assert not any(batch.label_drop.any() for batch in data.val_dataloader())
        assert all(batch.label_drop.all() for batch in data.train_dataloader())


class TestSizes:
    def test_they_are_known_before_any_text_is_read(self, make_data: Make, tmp_path: Path) -> None:
        data = make_data()
        assert (data.latent_size, data.max_length, data.vocab_size) == (16, 8, len(data.tokenizer))
        assert (data.pad_id, data.eos_id, data.unknown_id) == (0, 3, None)
        assert not (tmp_path / "cache").exists()

    def test_num_train_examples(self, make_data: Make) -> None:
        data = make_data(max_length=4)
        assert data.num_train_examples == 14
        assert len(data.train_dataloader()) == 7

    def test_the_codec_is_plain(self, make_data: Make, tmp_path: Path) -> None:
        data = make_data(restrict_vocabulary=True)
        state = data.codec.to_dict()
        torch.save(state, tmp_path / "state.pt")
        assert torch.load(tmp_path / "state.pt", weights_only=True) == state
        assert state["encoder"] == data.encoder.identity()
        assert state["kept_ids"] == data.vocabulary.kept_ids

    @pytest.mark.parametrize(
        ("global_batch_size", "world_size", "steps"), [(None, 2, 1), (8, 1, 4), (8, 2, 2)]
    )
    def test_the_global_batch_fixes_the_accumulation(
        self, make_data: Make, global_batch_size: int | None, world_size: int, steps: int
    ) -> None:
        assert make_data(global_batch_size=global_batch_size).accumulation(world_size) == steps

    def test_accumulation_reaches_the_trainer(self, make_data: Make, tmp_path: Path) -> None:
        run = trainer(tmp_path, max_epochs=1)
        run.fit(Recorder(), make_data(global_batch_size=4, max_length=4))
        assert (run.accumulate_grad_batches, run.global_step) == (2, 4)

    def test_another_accumulation_is_refused(self, make_data: Make, tmp_path: Path) -> None:
        run = trainer(tmp_path, max_epochs=1, accumulate_grad_batches=3)
        with pytest.raises(UserError, match=r"accumulate_grad_batches 3 contradicts .*global_batch_size 4"):
            run.fit(Recorder(), make_data(global_batch_size=4, max_length=4))

    def test_a_fit_begins_at_the_first_batch(self, make_data: Make) -> None:
        data = make_data()
        data.load_state_dict({"version": VERSION, "epoch": 1, "batch": 3, "examples_per_batch": 2})
        data.setup("fit")
        assert data.position == Position()


class TestRestrictedVocabulary:
    def test_the_network_knows_what_occurs_in_training(self, make_data: Make) -> None:
        full, data = make_data(), make_data(restrict_vocabulary=True)
        assert data.vocab_size < full.vocab_size == len(full.tokenizer)
        kept = data.tokenizer.convert_ids_to_tokens(data.vocabulary.kept_ids)
        assert {"[PAD]", "[UNK]", "[SEP]", "beginning", "light"} <= set(kept)
        assert not {"evening", "firmament"} & set(kept)
        assert (kept[data.pad_id], kept[data.eos_id], kept[data.unknown_id]) == ("[PAD]", "[SEP]", "[UNK]")

    def test_training_has_no_unknown_tokens_and_validation_may(self, make_data: Make) -> None:
        data = make_data(restrict_vocabulary=True)
        data.prepare_data()
        for batch in data.train_dataloader():
            assert not (data.on_after_batch_transfer(batch, 0).input_ids == data.unknown_id).any()
        unknown = [
            (data.on_after_batch_transfer(batch, 0).input_ids == data.unknown_id).any()
            for batch in data.val_dataloader()
        ]
        assert any(unknown)

    def test_the_encoder_sees_the_tokenizers_ids(self, make_data: Make) -> None:
        full, restricted = make_data(), make_data(restrict_vocabulary=True)
        full.prepare_data()
        first, second = (
            data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0) for data in (full, restricted)
        )
        assert torch.equal(first.latents, second.latents)
        assert not torch.equal(first.input_ids, second.input_ids)

    def test_text_comes_back(self, make_data: Make) -> None:
        data = make_data(restrict_vocabulary=True, packing="truncate", max_length=20)
        data.prepare_data()
        texts = [
            text
            for batch in data.train_dataloader()
            for text in data.codec.decode(data.on_after_batch_transfer(batch, 0).input_ids)
        ]
        assert "in the beginning god created the heaven and the earth" in texts

    def test_a_tokenizer_without_an_unknown_token_is_refused(
        self, make_data: Make, tmp_path: Path, tiny_bert: str
    ) -> None:
        folder = tmp_path / "model"
        words = WordLevel({"[PAD]": 0, "</s>": 1, "a": 2})
        PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer(words), pad_token="[PAD]", eos_token="</s>"
        ).save_pretrained(folder)
        for name in ("config.json", "model.safetensors"):
            (folder / name).write_bytes((Path(tiny_bert) / name).read_bytes())
        with pytest.raises(UserError, match=r"data.restrict_vocabulary true: .* has no unknown token"):
            make_data(encoder=PretrainedEncoder(str(folder)), restrict_vocabulary=True)

    def test_it_is_built_on_first_use_and_then_read(
        self, make_data: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = make_data(restrict_vocabulary=True)
        assert not (tmp_path / "cache").exists()
        assert data.vocab_size < len(data.tokenizer)
        monkeypatch.setattr(Preparation, "run", None)
        assert make_data(restrict_vocabulary=True).vocab_size == data.vocab_size


class TestBatchSizeFinder:
    """Lightning's BatchSizeFinder sets `batch_size`, and restores a checkpoint of the old one."""

    def find(
        self, make_data: Make, tmp_path: Path, module: Recorder, trials: int, **settings: Any
    ) -> tuple[ELFDataModule, Trainer]:
        data = make_data(**{"max_length": 4, "batch_size": 1} | settings)
        finder = BatchSizeFinder(max_trials=trials, steps_per_trial=1)
        # Loaders that are made again after the search meet the restored position.
        run = trainer(tmp_path, callbacks=[finder], reload_dataloaders_every_n_epochs=1, max_epochs=2)
        module.seen = []
        run.fit(module, data)
        return data, run

    @pytest.mark.parametrize("kind", [Recorder, StepCounter])
    def test_training_goes_on_with_the_size_it_found(
        self, make_data: Make, tmp_path: Path, kind: type[Recorder]
    ) -> None:
        module = kind()
        data, _ = self.find(make_data, tmp_path, module, trials=2)
        assert data.batch_size == 4
        expected = fit(make_data(max_length=4, batch_size=4), tmp_path, max_epochs=2)
        assert module.seen[-len(expected.seen) :] == expected.seen

    def test_it_stops_at_the_size_of_the_corpus(self, make_data: Make, tmp_path: Path) -> None:
        module = Recorder()
        with pytest.warns(match="^batch size 16 does not fit 14 training sequences; using 14$"):
            data, _ = self.find(make_data, tmp_path, module, trials=25)
        assert data.batch_size == data.num_train_examples == 14
        assert [len(batch) for batch in module.seen[-2:]] == [14, 14]

    @pytest.mark.parametrize(("trials", "size", "accumulation"), [(2, 4, 3), (3, 6, 2), (4, 12, 1)])
    def test_the_size_divides_the_global_batch_size(
        self, make_data: Make, tmp_path: Path, trials: int, size: int, accumulation: int
    ) -> None:
        module = Recorder()
        data, run = self.find(make_data, tmp_path, module, trials, global_batch_size=12)
        assert (data.batch_size, run.accumulate_grad_batches) == (size, accumulation)

    def test_a_checkpoint_of_the_found_size_is_resumed(self, make_data: Make, tmp_path: Path) -> None:
        path = tmp_path / "found.ckpt"
        _, run = self.find(make_data, tmp_path, Recorder(), trials=2)
        run.save_checkpoint(path)
        with pytest.raises(UserError, match=r"batch_size 1 x 1 device\(s\) is 1 sequences per batch"):
            fit(make_data(max_length=4, batch_size=1), tmp_path, ckpt_path=path)
        resumed = fit(make_data(max_length=4, batch_size=4), tmp_path, ckpt_path=path)
        assert len(resumed.seen) == 3


class TestMistakes:
    @pytest.mark.parametrize(
        ("settings", "complaint"),
        [
            ({"max_length": 33}, r"data.max_length 33 is beyond the limit of encoder .*; choose at most 32"),
            ({"max_length": 0}, r"data.max_length 0 must be at least 1"),
            ({"max_condition_length": 8}, r"data.max_condition_length 8 must lie between 1 and .*, 7"),
            ({"max_condition_length": 0}, r"data.max_condition_length 0"),
            ({"condition_eos": True}, r"data.condition_eos true: there are no conditions"),
            (
                {"label_drop_probability": 0.1},
                r"data.label_drop_probability 0.1: there is no condition to drop",
            ),
            ({"label_drop_probability": 1.5}, r"data.label_drop_probability 1.5 must lie between 0 and 1"),
            ({"batch_size": 0}, r"data.batch_size 0 must be at least 1"),
            ({"num_workers": -1}, r"data.num_workers -1 must be at least 0"),
            ({"num_predict_samples": 0}, r"data.num_predict_samples 0 must be at least 1"),
            ({"num_proc": 0}, r"data.num_proc 0 must be at least 1"),
            ({"seed": -1}, r"data.seed -1 must be at least 0"),
            (
                {"packing": "packed"},
                r"data.packing 'packed': choose pack, bos_eos, paragraphs, sentences, truncate, wrap",
            ),
            ({"pad_mode": "bos"}, r"data.pad_mode 'bos': choose pad, eos"),
            ({"bucket_step": 4}, r"data.bucket_step 4: packed sequences all have the same length"),
            ({"bucket_step": 4, "packing": "sentences"}, r"packed sequences all have the same length"),
            ({"latent_mean": 0.0}, r"give both, or neither"),
            ({"latent_mean": 0.0, "latent_std": 0.0}, r"data.latent_std 0.0 must be positive"),
        ],
    )
    def test_settings(self, make_data: Make, settings: dict[str, Any], complaint: str) -> None:
        with pytest.raises(UserError, match=complaint) as error:
            make_data(**settings)
        assert "\n" not in str(error.value)

    def test_a_global_batch_that_is_no_multiple(self, make_data: Make) -> None:
        with pytest.raises(
            UserError, match=r"global_batch_size 5 is not a multiple of data.batch_size 2 x 2 device"
        ):
            make_data(global_batch_size=5).accumulation(2)

    def test_a_batch_larger_than_the_corpus(self, make_data: Make) -> None:
        data = make_data(batch_size=100)
        data.prepare_data()
        with pytest.raises(
            UserError, match=r"data.batch_size 100 x 1 device\(s\) is more than the 7 training sequences"
        ):
            data.train_dataloader()


@pytest.mark.parametrize(("device", "pinned"), [("cuda", True), ("cpu", False)])
def test_batches_for_a_gpu_are_pinned(
    device: str, pinned: bool, make_data: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data()
    data.prepare_data()
    data.setup("fit")
    monkeypatch.setattr(ELFDataModule, "_device", lambda data: torch.device(device))
    for loader in (data.train_dataloader(), data.val_dataloader(), data.predict_dataloader()):
        assert loader.pin_memory is pinned
