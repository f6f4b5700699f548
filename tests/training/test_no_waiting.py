"""A training step asks the device for nothing, with all that is logged, guarded, averaged and shown."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from tests.host_waits import WAYS_TO_WAIT, HostWaits

from elf_lightning.callbacks import EMA, CollapseWatch, RunSummary, Throughput, TrainingProgress
from elf_lightning.data import ELFDataModule, TextFiles
from elf_lightning.encoders import PretrainedEncoder
from elf_lightning.network import NetworkConfig
from elf_lightning.training import ELFModule

pytestmark = pytest.mark.filterwarnings("ignore")

EVERY, STEPS = 5, 15
Train = Callable[..., None]

ON_THE_HOST = {
    # drawn there, since Python slices by them
    "elf_lightning/objectives/flow_matching.py:ELFObjective._mode_counts",
    "elf_lightning/callbacks/ema.py:EMA.n_averaged",
}
"""What asks for numbers that never are on the device."""
WHEN_LOGGED = {
    "lightning/fabric/utilities/apply_func.py:convert_tensors_to_scalars",  # for loggers
    "elf_lightning/callbacks/metric_text.py:short_metrics",
    "elf_lightning/callbacks/watch.py:CollapseWatch._check_accuracy",
    "elf_lightning/callbacks/watch.py:CollapseWatch._check_entropy",
}
GUARD = "elf_lightning/training/guard.py:GuardedModule"


class Steps(Callback):
    """Keeps the waits of each step; bringing the next batch to the device belongs to the one before."""

    def __init__(self, waits: HostWaits) -> None:
        self.waits = waits
        self.seen: dict[int, Counter[str]] = {}

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.waits.seen = self.seen[trainer.global_step + 1] = Counter()

    def asking(self, step: int) -> set[str]:
        return {*self.seen[step]} - ON_THE_HOST


class Asks(Callback):
    """Waits in one step."""

    def __init__(self, way: Callable[[torch.Tensor], object]) -> None:
        self.way = way

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        if trainer.global_step == 3:
            self.way(next(module.parameters()).detach())


class NoSynchronisation(Callback):
    """Lets torch raise where the host waits, in all steps but the first ones and those that are logged."""

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        step = trainer.global_step + 1
        torch.cuda.set_sync_debug_mode("error" if step > 2 and step % EVERY else "default")


@pytest.fixture
def train(tiny_t5: str, tmp_path: Path) -> Train:
    words = random.Random(0)
    lines = [" ".join(words.choices(["god", "light", "night", "day"], k=7)) for _ in range(80)]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    source, encoder = TextFiles(str(tmp_path / "lines.txt"), document="line"), PretrainedEncoder(tiny_t5)

    def run(more: Sequence[Callback] = (), steps: int = STEPS, device: str = "cpu", **settings: Any) -> None:
        # Another process reads the data: what is on the host may be asked for.
        data = ELFDataModule(
            source, encoder, max_length=8, batch_size=4, num_workers=1, cache_dir=str(tmp_path / "cache")
        )
        shape = NetworkConfig(hidden_size=16, depth=1, num_heads=2, bottleneck_size=8)
        module = ELFModule.for_data(data, network=shape, **settings)
        trainer = Trainer(
            accelerator=device,
            devices=1,
            callbacks=[EMA(0.9), TrainingProgress(), RunSummary(), Throughput(), CollapseWatch(), *more],
            logger=CSVLogger(tmp_path),
            enable_checkpointing=False,
            enable_model_summary=False,
            max_steps=steps,
            gradient_clip_val=1.0,
            log_every_n_steps=EVERY,
            limit_val_batches=0,
        )
        trainer.fit(module, datamodule=data)

    return run


@pytest.mark.parametrize(
    ("non_finite", "always", "when_logged"),
    [("stop", set(), {f"{GUARD}._check"}), ("skip", {f"{GUARD}._bad_on_any_rank"}, set())],
)
def test_only_logged_steps_synchronise(
    train: Train, non_finite: str, always: set[str], when_logged: set[str]
) -> None:
    with HostWaits() as waits:
        train([steps := Steps(waits)], non_finite=non_finite)
    for step in range(3, STEPS):
        logged = set() if step % EVERY else when_logged | WHEN_LOGGED
        assert steps.asking(step) == always | logged


@pytest.mark.parametrize("way", WAYS_TO_WAIT)
def test_a_synchronising_step_is_detected(train: Train, way: str) -> None:
    with HostWaits() as waits:
        train([steps := Steps(waits), Asks(WAYS_TO_WAIT[way])], steps=4)
    assert steps.asking(3) == {f"{__file__}:Asks.on_train_batch_end"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_only_logged_steps_synchronise_on_a_gpu(train: Train) -> None:
    try:
        train([NoSynchronisation()], device="gpu")
    finally:
        torch.cuda.set_sync_debug_mode("default")
