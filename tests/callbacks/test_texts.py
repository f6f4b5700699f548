"""Samples and their metrics during training, without any effect on the training."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger

from elf_lightning.callbacks import EMA, GenerativePerplexityCallback, SampleLogger
from elf_lightning.cli import main
from elf_lightning.errors import UserError
from elf_lightning.metrics import MetricSuite, ScoringModel, ScoringModelSettings

SMALL = Path(__file__).parents[1] / "evaluation"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that makes small models."""
    monkeypatch.syspath_prepend(SMALL)
    import small_model

    return small_model


@pytest.fixture
def scoring_model(tiny_scoring_model: str) -> ScoringModelSettings:
    return ScoringModelSettings(tiny_scoring_model, context_length=32)


class Losses(Callback):
    """Keeps the exact loss of every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        self.values.append(outputs["loss"].item())


@pytest.fixture
def fit(small: Any, tmp_path: Path, tiny_t5: str, tiny_scoring_model: str) -> Callable[..., Any]:
    """Trains a small model with dropout, in `run`, and returns it."""

    def run(callbacks: Sequence[Callback], **settings: Any) -> Any:
        data = small.make_data(tmp_path, tiny_t5)
        model = small.make_model(data, tiny_scoring_model)
        for part in model.network.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.5
        plain = {"max_steps": 4, "limit_val_batches": 0}
        trainer = small.make_trainer(tmp_path / "run", callbacks=[*callbacks], **plain | settings)
        trainer.fit(model, datamodule=data)
        return model

    return run


def kept(tmp_path: Path, step: int) -> list[dict[str, Any]]:
    path = tmp_path / "run" / "samples" / f"step-{step:07d}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_training_is_exactly_the_same_with_and_without(
    fit: Callable[..., Any], scoring_model: ScoringModelSettings
) -> None:
    without, with_all = Losses(), Losses()
    torch.manual_seed(0)
    fit([EMA(decay=0.5), without])
    torch.manual_seed(0)
    others = [
        SampleLogger(every_n_steps=1, num_samples=2),
        GenerativePerplexityCallback(every_n_steps=1, num_samples=3, scoring_model=scoring_model),
    ]
    model = fit([EMA(decay=0.5), *others, with_all])
    assert len(without.values) == 4
    assert with_all.values == without.values
    assert model.network.training

    torch.manual_seed(1)
    differently = Losses()
    fit([EMA(decay=0.5), differently])
    assert differently.values != without.values  # dropout does draw from the global generator


def test_samples_are_kept_once_a_period(fit: Callable[..., Any], tmp_path: Path) -> None:
    fit([SampleLogger(every_n_steps=4, num_samples=3)], accumulate_grad_batches=2, max_steps=9, max_epochs=-1)
    names = sorted(path.name for path in (tmp_path / "run" / "samples").iterdir())
    assert names == ["step-0000004.jsonl", "step-0000008.jsonl"]
    rows = kept(tmp_path, 4)
    assert [row["index"] for row in rows] == [0, 1, 2]
    assert all(row.keys() == {"step", "index", "seed", "text", "tokens"} for row in rows)
    assert rows != [{**row, "step": 4} for row in kept(tmp_path, 8)]


def test_epochs_are_a_period_too(fit: Callable[..., Any], tmp_path: Path) -> None:
    # 30 rows of 4: seven steps an epoch.
    fit([SampleLogger(every_n_epochs=2)], max_steps=-1, max_epochs=4)
    assert sorted(path.name for path in (tmp_path / "run" / "samples").iterdir()) == [
        "step-0000014.jsonl",
        "step-0000028.jsonl",
    ]


def test_samples_are_of_averaged_weights_and_fixed_noise(fit: Callable[..., Any], tmp_path: Path) -> None:
    # After fit the module holds the average: what it says then, it said at the last step.
    model = fit([EMA(decay=0.999), SampleLogger(every_n_steps=4, num_samples=4, seed=3)])
    texts = [row["text"] for row in kept(tmp_path, 4)]
    generator = model.text_generator()
    (batch,) = generator.generate(model.text_requests(4), seed=3)
    assert texts == [sample.text for sample in batch]


def test_texts_reach_terminal_tensorboard_and_wandb(
    fit: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    board = TensorBoardLogger(tmp_path / "board")
    sent: list[dict[str, Any]] = []
    wandb = WandbLogger.__new__(WandbLogger)
    monkeypatch.setattr(
        wandb, "log_text", lambda key, **content: sent.append({"key": key} | content), raising=False
    )
    told: list[tuple[Any, ...]] = []
    monkeypatch.setattr(board.experiment, "add_text", lambda *content: told.append(content))
    callback = SampleLogger(every_n_steps=4, num_samples=2)

    use = callback.use

    def with_loggers(texts: Any, trainer: Trainer, module: LightningModule) -> None:
        own = trainer.loggers
        trainer.loggers = [board, wandb]
        use(texts, trainer, module)
        trainer.loggers = own

    monkeypatch.setattr(callback, "use", with_loggers)
    fit([callback])
    rows = kept(tmp_path, 4)
    assert told == [("samples", f"**0** {rows[0]['text']}\n\n**1** {rows[1]['text']}", 4)]
    assert sent == [
        {
            "key": "samples",
            "columns": ["index", "text"],
            "data": [["0", rows[0]["text"]], ["1", rows[1]["text"]]],
            "step": 4,
        }
    ]
    shown = capsys.readouterr().out
    assert "samples at step 4" in shown
    assert rows[0]["text"].split()[0] in shown


def logged(folder: Path) -> list[dict[str, str]]:
    with (folder / "csv" / "version_0" / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row.get("val/gen_ppl")]


def test_numbers_are_those_of_the_texts_and_can_be_monitored(
    fit: Callable[..., Any],
    tmp_path: Path,
    scoring_model: ScoringModelSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moves: list[str] = []
    to = ScoringModel.to
    monkeypatch.setattr(
        ScoringModel, "to", lambda self, device: moves.append(str(device)) or to(self, device)
    )
    seen: list[float] = []

    class Monitor(Callback):
        def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            seen.append(trainer.callback_metrics["val/gen_ppl"].item())

    fit(
        [
            EMA(),
            SampleLogger(every_n_steps=2, num_samples=5),
            GenerativePerplexityCallback(
                every_n_steps=2, num_samples=5, scoring_model=scoring_model, offload=True
            ),
            Monitor(),
        ],
        logger=CSVLogger(tmp_path / "run", name="csv"),
        log_every_n_steps=3,
    )
    suite = MetricSuite.unconditional(scoring_model.load())
    rows = logged(tmp_path / "run")
    assert [row["step"] for row in rows] == ["1", "3"]
    for row, step in zip(rows, (2, 4), strict=True):
        for name, value in suite([text["text"] for text in kept(tmp_path, step)]).items():
            assert float(row[f"val/{name}"]) == pytest.approx(value), name
    assert seen == [pytest.approx(float(rows[-1]["val/gen_ppl"]))]
    assert moves[-1] == "cpu"


def test_empty_samples_stop_no_training(
    fit: Callable[..., Any], scoring_model: ScoringModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elf_lightning.codec.TextCodec.decode", lambda self, ids: [""] * len(ids))
    with pytest.warns(UserWarning, match="all 3 samples at step 4 are empty; they are not scored"):
        fit([GenerativePerplexityCallback(every_n_steps=4, num_samples=3, scoring_model=scoring_model)])


def test_two_processes_share_texts_and_numbers(
    tmp_path: Path, tiny_t5: str, tiny_scoring_model: str, scoring_model: ScoringModelSettings
) -> None:
    script = Path(__file__).with_name("two_ranks_fit.py")
    command = [sys.executable, str(script), str(tmp_path), tiny_t5, tiny_scoring_model]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(SMALL)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    texts = kept(tmp_path, 2)
    assert [row["index"] for row in texts] == [0, 1, 2, 3, 4]
    (row,) = logged(tmp_path / "run")
    suite = MetricSuite.unconditional(scoring_model.load())
    for name, value in suite([text["text"] for text in texts]).items():
        assert float(row[f"val/{name}"]) == pytest.approx(value, rel=1e-6), name


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "SampleLogger: give either every_n_steps or every_n_epochs"),
        (
            {"every_n_steps": 1, "every_n_epochs": 1},
            "SampleLogger: give either every_n_steps or every_n_epochs",
        ),
        ({"every_n_steps": 0}, "SampleLogger.every_n_steps is 0; it must be at least 1"),
        ({"every_n_epochs": 1, "num_samples": 0}, "SampleLogger.num_samples is 0; it must be at least 1"),
        ({"every_n_epochs": 1, "batch_size": -1}, "SampleLogger.batch_size is -1; it must be at least 1"),
    ],
)
def test_wrong_numbers_are_refused(arguments: dict[str, int], told: str) -> None:
    with pytest.raises(UserError) as error:
        SampleLogger(**arguments)
    assert str(error.value) == told


def test_a_missing_scoring_model_is_refused_before_training(fit: Callable[..., Any], tmp_path: Path) -> None:
    losses = Losses()
    nobody = ScoringModelSettings(str(tmp_path / "nobody"))
    with pytest.raises(UserError, match=r"the scoring model '.*nobody' cannot be loaded"):
        fit([GenerativePerplexityCallback(every_n_steps=1, scoring_model=nobody), losses])
    assert losses.values == []


def test_a_module_that_generates_no_text_is_refused(small: Any, tmp_path: Path) -> None:
    trainer = small.make_trainer(tmp_path, callbacks=[SampleLogger(every_n_steps=1)])
    with pytest.raises(
        UserError, match=r"SampleLogger: LightningModule has no text_generator\(\); leave the callback out"
    ):
        SampleLogger(every_n_steps=1).on_fit_start(trainer, LightningModule())


def test_both_come_from_yaml(
    small: Any,
    tmp_path: Path,
    tiny_run: Callable[..., dict[str, Any]],
    tiny_scoring_model: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    small.write_lines(tmp_path)
    perplexity = {
        "every_n_steps": 2,
        "num_samples": 4,
        "scoring_model": {"name": tiny_scoring_model, "context_length": 32},
    }
    config = tiny_run(
        {
            "name": "yaml",
            "model.sampling.steps": 2,
            "trainer.max_steps": 2,
            "trainer.limit_val_batches": 0,
            "trainer.callbacks": [
                {"class_path": "SampleLogger", "init_args": {"every_n_steps": 2, "settings": {"steps": 3}}},
                {"class_path": "GenerativePerplexityCallback", "init_args": perplexity},
            ],
        }
    )
    Path("config.yaml").write_text(json.dumps(config))
    assert main(["fit", "--config", "config.yaml"]) == 0
    assert len(Path("runs/yaml/samples/step-0000002.jsonl").read_text().splitlines()) == 4
