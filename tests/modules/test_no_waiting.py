"""A training step asks the device for nothing, with all that is logged, guarded and shown around it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch.utils._python_dispatch import TorchDispatchMode

from elf_lightning.callbacks import CollapseWatch, RunSummary, Throughput, TrainingProgress
from elf_lightning.data import ELFDataModule, TextFiles
from elf_lightning.encoders import PretrainedEncoder
from elf_lightning.modules import ELFModule
from elf_lightning.network import NetworkShape
from elf_lightning.objectives import ELFObjective

pytestmark = pytest.mark.filterwarnings("ignore")

WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique")
"""Operators whose result the host waits for on a GPU; `item`, `float` and `bool` are the first."""


class Waits(TorchDispatchMode):
    """Notes in which steps the host would wait."""

    def __init__(self) -> None:
        super().__init__()
        self.step = 0
        self.steps: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__.startswith(WAITING):
            self.steps.add(self.step)
        return func(*args, **kwargs or {})


class Steps(Callback):
    """Tells `waits` which step is on."""

    def __init__(self, waits: Waits) -> None:
        self.waits = waits

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.waits.step = trainer.global_step + 1


@pytest.mark.parametrize("settings", [{}, {"non_finite": "skip"}])
def test_only_steps_that_are_logged_wait(settings: dict[str, Any], tiny_t5: str, tmp_path: Path) -> None:
    words = random.Random(0)
    lines = [" ".join(words.choices(["god", "light", "night", "day"], k=7)) for _ in range(80)]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    source, encoder = TextFiles(str(tmp_path / "lines.txt"), document="line"), PretrainedEncoder(tiny_t5)
    # Another process reads the data: what is on the host may be asked for.
    data = ELFDataModule(
        source, encoder, max_length=8, batch_size=4, num_workers=1, cache_dir=str(tmp_path / "cache")
    )
    module = ELFModule.for_data(
        data,
        network=NetworkShape(hidden_size=16, depth=1, num_heads=2, bottleneck_size=8),
        objective=ELFObjective(),
        **settings,
    )
    waits = Waits()
    # Without EMA, whose count of steps is on the host.
    callbacks = [TrainingProgress(), RunSummary(), Throughput(), CollapseWatch(), Steps(waits)]
    trainer = Trainer(
        accelerator="cpu",
        callbacks=callbacks,
        logger=CSVLogger(tmp_path),
        enable_checkpointing=False,
        enable_model_summary=False,
        max_steps=14,
        gradient_clip_val=1.0,
        log_every_n_steps=5,
        limit_val_batches=0,
    )
    with waits:
        trainer.fit(module, datamodule=data)
    everywhere = set(range(15))
    assert waits.steps - {0, 1, 2} == (everywhere - {0, 1, 2} if settings else {5, 10})
