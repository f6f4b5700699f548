"""CUDA graphs are used on NVIDIA GPUs where each backward pass is a step, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, GradientAccumulationScheduler
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, SingleDeviceStrategy, Strategy

from elf_lightning.data import ELFDataModule, TextFiles
from elf_lightning.encoders import PretrainedEncoder
from elf_lightning.network import NetworkConfig
from elf_lightning.training import ELFModule, base
from elf_lightning.training.cuda_graphs import can_replay
from elf_lightning.training.ddp import DDP

GPUS = [GPU := torch.device("cuda", 0), torch.device("cuda", 1)]


def run(strategy: Strategy | None = None, accumulated: int = 1, *callbacks: object) -> Any:
    strategy = strategy or SingleDeviceStrategy(GPU)
    return SimpleNamespace(strategy=strategy, accumulate_grad_batches=accumulated, callbacks=[*callbacks])


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    return lambda version: monkeypatch.setattr(torch.version, "cuda", version)


@pytest.mark.parametrize("strategy", [SingleDeviceStrategy(GPU), DDPStrategy, DDP])
def test_gpus_that_step_after_each_backward_pass_can_replay(
    strategy: Any, cuda: Callable[[str | None], None]
) -> None:
    cuda("13.0")
    assert can_replay(run(strategy(parallel_devices=GPUS) if isinstance(strategy, type) else strategy))


@pytest.mark.parametrize(
    "other",
    [
        run(SingleDeviceStrategy(torch.device("cpu"))),
        run(FSDPStrategy(parallel_devices=GPUS)),
        run(None, 2),
        run(None, 1, GradientAccumulationScheduler({0: 1, 1: 3})),
        run(None, 1, BatchSizeFinder()),
    ],
    ids=["cpu", "fsdp", "accumulation", "later accumulation", "batch size finder"],
)
def test_other_runs_cannot(other: Any, cuda: Callable[[str | None], None]) -> None:
    cuda("13.0")
    assert not can_replay(other)


def test_gpus_of_other_makers_do_not(cuda: Callable[[str | None], None]) -> None:
    cuda(None)
    assert not can_replay(run())


def test_each_run_decides_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """One module can be trained by several Trainers, of which a later one accumulates gradients."""
    monkeypatch.setattr(base, "can_replay", lambda trainer: trainer.accumulate_grad_batches == 1)
    sizes = {"latent_size": 8, "vocab_size": 20, "max_length": 6, "eos_id": 1, "pad_id": 0}
    module = ELFModule(**sizes, network=NetworkConfig(16, 1, 2, 8))
    for accumulated, expected in ((1, True), (4, False), (1, True)):
        module.trainer = Trainer(accelerator="cpu", accumulate_grad_batches=accumulated, logger=False)
        module.setup("fit")
        assert module.network.cuda_graphs == expected
    module.automatic_optimization = False
    module.setup("fit")
    assert not module.network.cuda_graphs
    refused = ELFModule(**sizes, network=NetworkConfig(16, 1, 2, 8), cuda_graphs=False)
    refused.trainer = module.trainer
    refused.setup("fit")
    assert not refused.network.cuda_graphs


class Gradients(Callback):
    """Whether parameters have gradients, after each batch and before the next."""

    def __init__(self) -> None:
        self.after, self.before = list[bool](), list[bool]()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        self.after.append(all(p.grad is not None for p in pl_module.parameters()))

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        self.before.append(any(p.grad is not None for p in pl_module.parameters()))


@pytest.mark.parametrize("replayed", [True, False])
def test_gradients_of_graphs_do_not_outlive_their_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_bert: str, replayed: bool
) -> None:
    monkeypatch.setattr(base, "can_replay", lambda trainer: replayed)
    (tmp_path / "corpus.txt").write_text("in the beginning god created the heaven and the earth\n" * 40)
    data = ELFDataModule(
        TextFiles(str(tmp_path / "corpus.txt"), document="line", validation_fraction=0.2),
        PretrainedEncoder(tiny_bert), max_length=8, batch_size=4, cache_dir=str(tmp_path / "cache"),
    )  # fmt: skip
    seen = Gradients()
    trainer = Trainer(
        accelerator="cpu", max_steps=3, callbacks=[seen], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(ELFModule.for_data(data, network=NetworkConfig(16, 1, 2, 8)), datamodule=data)
    assert all(seen.after), "callbacks still see them"
    assert seen.before == [False, not replayed, not replayed]
