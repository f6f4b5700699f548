"""The plan of a run against what the run then does."""

from __future__ import annotations

import random
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from elf_lightning.batch import LatentBatch
from elf_lightning.callbacks import EMA, RunSummary
from elf_lightning.callbacks.run_plan import RunPlan, plan_run
from elf_lightning.data import ELFDataModule, TextFiles
from elf_lightning.encoders import PretrainedEncoder
from elf_lightning.errors import UserError
from elf_lightning.network import ELFNetwork, NetworkConfig
from elf_lightning.network.flops import training_step_flops
from elf_lightning.objectives import ELFObjective, ProgressiveDistillation, StepKey
from elf_lightning.optim import (
    AdamWSettings,
    MuonSettings,
    OptimizerSettings,
    Schedule,
    scaled_learning_rate,
)

pytestmark = pytest.mark.filterwarnings("ignore")
SHAPE = NetworkConfig(hidden_size=16, depth=2, num_heads=2, bottleneck_size=8)


class Planned(LightningModule):
    """A module of one's own with what a plan needs."""

    def __init__(
        self,
        data: ELFDataModule,
        network: NetworkConfig = SHAPE,
        optimizer: OptimizerSettings = MuonSettings(),
        schedule: Schedule = Schedule(),
    ) -> None:
        super().__init__()
        self.network = ELFNetwork(network, data.latent_size, data.vocab_size, data.max_length)
        self.objective = ELFObjective()
        self.optimizer = optimizer
        self.schedule = schedule

    def training_flops(self, batch_size: int, length: int) -> float:
        counts = self.objective.mean_counts(batch_size)
        return training_step_flops(self.network, batch_size, length, *counts)

    def training_step(self, batch: LatentBatch, batch_idx: int) -> Tensor:
        key = StepKey(0, self.current_epoch, batch_idx)
        draws = self.objective.draw(batch.latents.shape, key, self.device)
        return self.objective(self.network, batch, draws).total

    def configure_optimizers(self) -> Any:
        trainer = self.trainer
        rows = trainer.datamodule.batch_size * trainer.accumulate_grad_batches
        rate = scaled_learning_rate(self.optimizer.base_learning_rate, rows)
        optimizer, total_steps = self.optimizer.build(self.network, rate), trainer.estimated_stepping_batches
        trainer.fit_loop.setup_data()
        steps_per_epoch = ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        scheduler = self.schedule.build(optimizer, total_steps, steps_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


@pytest.fixture
def data(tiny_t5: str, tmp_path: Path) -> ELFDataModule:
    """53 training sequences of 8 tokens, 4 per micro-batch."""
    words = random.Random(0)
    lines = [" ".join(words.choices(["god", "light", "night", "day"], k=7)) for _ in range(56)]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    source = TextFiles(str(tmp_path / "lines.txt"), document="line")
    return ELFDataModule(
        source, PretrainedEncoder(tiny_t5), max_length=8, batch_size=4, cache_dir=str(tmp_path / "cache")
    )


def trainer_of(*callbacks: Callback, **settings: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(
        accelerator="cpu", enable_checkpointing=False, callbacks=list(callbacks), **quiet | settings
    )


class Rates(Callback):
    """The learning rate of each step."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_before_optimizer_step(
        self, trainer: Trainer, module: Any, optimizer: torch.optim.Optimizer
    ) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize(
    "settings",
    [
        {"max_epochs": 2, "accumulate_grad_batches": 3},
        {"max_epochs": 2, "accumulate_grad_batches": 3, "limit_train_batches": 7},
        {"max_epochs": 3, "limit_train_batches": 0.5},
        {"max_steps": 9, "max_epochs": -1},
    ],
)
def test_the_run_does_what_the_plan_says(settings: dict[str, Any], data: ELFDataModule) -> None:
    module = Planned(data, schedule=Schedule(warmup_epochs=0.5))
    plan = plan_run(module, data, trainer_of(**settings))
    rates, trainer = Rates(), trainer_of(**settings | {"limit_val_batches": 0})
    trainer.callbacks.append(rates)
    trainer.fit(module, datamodule=data)
    assert trainer.global_step == plan.total_steps
    warming = [rate for rate in rates.rates if rate < plan.learning_rate * (1 - 1e-6)]
    assert len(warming) == plan.warmup_steps
    assert rates.rates[-1] == pytest.approx(plan.learning_rate)
    assert plan.sequences == 53
    assert plan.learning_rate == pytest.approx(0.001 * plan.global_batch / 256)
    assert plan.step_flops == plan.accumulation * training_step_flops(module.network, 4, 8, 0.8, 1.6)


def test_the_global_batch_sets_the_accumulation(data: ELFDataModule) -> None:
    data.global_batch_size = 16
    plan = plan_run(Planned(data), data, trainer_of(max_epochs=1))
    assert (plan.accumulation, plan.global_batch, plan.steps_per_epoch) == (4, 16, 4)


def test_a_warm_up_longer_than_the_run_is_refused(data: ELFDataModule) -> None:
    module = Planned(data, schedule=Schedule(warmup_steps=20))
    with pytest.raises(UserError, match="warm-up of 20 steps is longer than the run of 9 steps"):
        plan_run(module, data, trainer_of(max_steps=9, max_epochs=-1))


@pytest.mark.parametrize(
    ("schedule", "settings", "complaint"),
    [
        (Schedule(decay="cosine"), {"max_epochs": -1}, "decay='cosine': needs the length of the run"),
        (Schedule(), {"limit_train_batches": 0.01}, "trainer.limit_train_batches 0.01 leaves no batch"),
    ],
)
def test_a_run_without_end_or_batches_is_refused(
    schedule: Schedule, settings: dict[str, Any], complaint: str, data: ELFDataModule
) -> None:
    module = Planned(data, schedule=schedule)
    with pytest.raises(UserError, match=complaint):
        plan_run(module, data, trainer_of(**settings))


def test_an_accumulation_that_contradicts_the_global_batch_is_refused(data: ELFDataModule) -> None:
    data.global_batch_size = 16
    module, trainer = Planned(data), trainer_of(accumulate_grad_batches=2)
    with pytest.raises(UserError, match=r"accumulate_grad_batches 2 contradicts data.global_batch_size 16"):
        plan_run(module, data, trainer)


def test_a_network_of_any_kind_has_a_plan(data: ELFDataModule) -> None:
    class Other(Planned):
        def __init__(self, data: ELFDataModule) -> None:
            super().__init__(data)
            self.network = nn.Linear(3, 2)  # type: ignore[assignment]
            self.teacher = nn.Linear(5, 1).requires_grad_(False)

        def training_flops(self, batch_size: int, length: int) -> float:
            return 1.0

    memory = plan_run(Other(data), data, trainer_of(max_steps=1)).memory
    assert memory == {"weights": 4 * (8 + 6), "gradients": 4 * 8, "optimizer": 4 * (6 + 2 * 2)}


def test_memory_counts_what_is_there(data: ELFDataModule) -> None:
    muon = Planned(data)
    adam = Planned(data, optimizer=AdamWSettings())
    weights = 4 * sum(p.numel() for p in muon.network.parameters())
    plain = plan_run(muon, data, trainer_of(max_steps=1)).memory
    averaged = plan_run(muon, data, trainer_of(EMA(), max_steps=1)).memory
    on_host = plan_run(muon, data, trainer_of(EMA(device="cpu"), max_steps=1)).memory
    assert (plain["weights"], plain["gradients"], averaged["average"]) == (weights,) * 3
    assert "average" not in plain
    assert on_host == plain
    assert plan_run(adam, data, trainer_of(max_steps=1)).memory["optimizer"] == 2 * weights
    assert weights < plain["optimizer"] < 1.3 * weights


def test_memory_counts_a_teacher(data: ELFDataModule) -> None:
    student, alone = Planned(data), plan_run(Planned(data), data, trainer_of(max_steps=1)).memory
    student.objective = ProgressiveDistillation(teacher=Planned(data).network)
    taught = plan_run(student, data, trainer_of(max_steps=1)).memory
    assert taught == alone | {"teacher": alone["weights"]}
    assert "teacher" not in alone


def test_the_optimizer_holds_as_much_as_the_plan_says(data: ELFDataModule) -> None:
    for module in (
        Planned(data, optimizer=AdamWSettings()),
        Planned(data),
    ):
        trainer = trainer_of(max_steps=1, limit_val_batches=0)
        trainer.fit(module, datamodule=data)
        states = trainer.optimizers[0].state.values()
        held = sum(
            4 * t.numel()
            for state in states
            for t in state.values()
            if isinstance(t, torch.Tensor) and t.ndim
        )
        assert plan_run(module, data, trainer).memory["optimizer"] == held


def test_a_device_that_is_too_small_is_reported() -> None:
    plan = RunPlan(
        105_000_000, 8_000_000, 1024, 64, 8, 1, 15_625, 78_125, 7812, 0.002, 0.001, "constant", 5e14,
        {"weights": 40_000_000_000, "optimizer": 40_000_000_000}, 80_000_000_000,
    )  # fmt: skip
    texts = [text for _, text in plan.lines()]
    assert "8,000,000 sequences of 1,024 tokens, 8.19G tokens per epoch" in texts
    assert "512 sequences per step: 64 x 8 device(s) x 1 micro-batch(es)" in texts
    assert "15,625 per epoch, 78,125 in total: 5 epoch(s)" in texts
    assert "0.002 (0.001 at 256 sequences) after 7,812 steps of warm-up, then constant" in texts
    assert "80GB per device, and activations, which grow with data.batch_size:" in texts
    remedy = "choose a smaller model.network, or EMA with device cpu"
    assert texts[-1] == f"which is more than the device's 80GB: {remedy}"
    roomy = replace(plan, device_memory=85_000_000_000)
    assert roomy.lines() == plan.lines()[:-1]


def test_the_summary_comes_before_the_first_step(
    data: ELFDataModule, capsys: pytest.CaptureFixture[str]
) -> None:
    class FirstStep(Callback):
        def on_train_start(self, *_: Any) -> None:
            print("first step")

    module = Planned(data)
    trainer_of(RunSummary(), FirstStep(), max_steps=1, limit_val_batches=0).fit(module, datamodule=data)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines][:5] == ["network", "data", "batch", "steps", "rate"]
    assert lines[-1] == "first step"
