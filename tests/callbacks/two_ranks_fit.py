"""`two_ranks_fit.py FOLDER ENCODER SCORING_MODEL`: two processes train, sample and score in FOLDER/run."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from lightning.pytorch.loggers import CSVLogger
from small_model import make_data, make_model, make_trainer

from elf_lightning.callbacks import EMA, GenerativePerplexityCallback, SampleLogger
from elf_lightning.metrics import ScoringModelSettings


def main() -> None:
    folder, encoder, scoring_model = sys.argv[1:]
    torch.set_num_threads(1)
    run = Path(folder) / "run"
    data = make_data(Path(folder), encoder)
    callbacks = [
        EMA(decay=0.5),
        SampleLogger(every_n_steps=2, num_samples=5, batch_size=2, show=False),
        GenerativePerplexityCallback(
            every_n_steps=2,
            num_samples=5,
            batch_size=2,
            scoring_model=ScoringModelSettings(scoring_model, context_length=32),
        ),
    ]
    settings = {"max_steps": 2, "devices": 2, "strategy": "ddp_fork", "limit_val_batches": 0}
    trainer = make_trainer(run, callbacks=callbacks, logger=CSVLogger(run, name="csv"), **settings)
    trainer.fit(make_model(data, scoring_model), datamodule=data)


if __name__ == "__main__":
    main()
