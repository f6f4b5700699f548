"""`two_ranks.py FOLDER ENCODER JUDGE`: the small evaluation on two processes, its results in FOLDER/two."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from small_model import make_data, make_model, make_trainer


def main() -> None:
    folder, encoder, scoring_model = sys.argv[1:]
    torch.set_num_threads(1)
    data = make_data(Path(folder), encoder)
    model = make_model(data, scoring_model)
    trainer = make_trainer(Path(folder) / "two", devices=2, strategy="ddp_fork")
    trainer.test(model, datamodule=data, verbose=False)


if __name__ == "__main__":
    main()
