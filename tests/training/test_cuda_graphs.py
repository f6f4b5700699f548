"""CUDA graphs are used on NVIDIA GPUs where each backward pass is a step, and nowhere else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, SingleDeviceStrategy, Strategy

from elf_lightning.data import ELFDataModule, TextFiles
from elf_lightning.encoders import PretrainedEncoder
from elf_lightning.network import ELFNetwork, NetworkConfig
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


@pytest.mark.parametrize("strategy", [SingleDeviceStrategy(GPU), DDP(parallel_devices=GPUS)])
def test_gpus_that_step_after_each_backward_pass_can_replay(
    strategy: Strategy, cuda: Callable[[str | None], None]
) -> None:
    cuda("13.0")
    assert can_replay(run(strategy))


@pytest.mark.parametrize(
    "other",
    [
        run(SingleDeviceStrategy(torch.device("cpu"))),
        run(FSDPStrategy(parallel_devices=GPUS)),
        run(DDPStrategy(parallel_devices=GPUS)),  # DeepSpeed's is a kind of it
        run(None, 2),
        run(None, 1, BatchSizeFinder()),
    ],
    ids=["cpu", "fsdp", "lightning's ddp", "accumulation", "batch size finder"],
)
def test_other_runs_cannot(other: Any, cuda: Callable[[str | None], None]) -> None:
    cuda("13.0")
    assert not can_replay(other)


def test_gpus_of_other_makers_do_not(cuda: Callable[[str | None], None]) -> None:
    cuda(None)
    assert not can_replay(run())


def steps(monkeypatch: pytest.MonkeyPatch, objective: Any, **settings: Any) -> ELFModule:
    """A compiled module whose steps call `objective` alone, where graphs can be replayed."""
    monkeypatch.setattr(base, "can_replay", lambda trainer: trainer.accumulate_grad_batches == 1)
    sizes = {"latent_size": 8, "vocab_size": 20, "max_length": 6, "eos_id": 1, "pad_id": 0}
    module = ELFModule(**sizes, network=NetworkConfig(16, 1, 2, 8), **settings)
    module.network.compile(backend="eager")
    module.objective = objective
    monkeypatch.setattr(module, "draw", lambda *_: None)
    monkeypatch.setattr(module, "log_losses", lambda *_: None)
    module.trainer = Trainer(accelerator="cpu", logger=False)
    return module


def test_graphs_are_replayed_within_a_step_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step decides anew, since callbacks may change the accumulation of gradients."""
    seen = list[bool]()

    def objective(network: ELFNetwork, *_: object) -> Any:
        seen.append(network.cuda_graphs)
        assert other.cuda_graphs == network.cuda_graphs
        if len(seen) == 4:
            raise KeyboardInterrupt
        return SimpleNamespace(total=torch.zeros(()))

    module = steps(monkeypatch, objective)
    other = copy.deepcopy(module.network)
    module.networks = [module.network, other]
    for accumulated in (1, 4, 1):
        module.trainer.accumulate_grad_batches = accumulated
        module.training_step([], 0)  # type: ignore[arg-type]
        assert not module.network.cuda_graphs
    with pytest.raises(KeyboardInterrupt):
        module.training_step([], 0)  # type: ignore[arg-type]
    assert seen == [True, False, True, True]
    assert not module.network.cuda_graphs
    assert not other.cuda_graphs


@pytest.mark.parametrize("why", ["told not to", "not compiled", "manual optimization"])
def test_some_modules_replay_nothing(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[bool]()

    def objective(network: ELFNetwork, *_: object) -> Any:
        seen.append(network.cuda_graphs)
        return SimpleNamespace(total=torch.zeros(()))

    module = steps(monkeypatch, objective, cuda_graphs=why != "told not to")
    if why == "not compiled":
        module.network = copy.deepcopy(module.network)
        module.networks = [module.network]
    module.automatic_optimization = why != "manual optimization"
    module.training_step([], 0)  # type: ignore[arg-type]
    assert seen == [False]


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
    module = ELFModule.for_data(data, network=NetworkConfig(16, 1, 2, 8))
    module.network.compile(backend="eager")
    trainer.fit(module, datamodule=data)
    assert all(seen.after), "callbacks still see them"
    assert seen.before == [False, not replayed, not replayed]
