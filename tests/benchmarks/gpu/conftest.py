"""Packed inputs as small as can be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from benchmarks.gpu.corpus import DECODING_FILE, ENCODER_FOLDER, ROWS_FILE
from safetensors.torch import save_file


@pytest.fixture
def inputs(tiny_bert: str, tmp_path: Path) -> Path:
    """A folder as `pack_inputs` makes it: 40 rows of 8 to train on, 6 held out; 20 pieces are kept."""
    folder = tmp_path / "inputs"
    folder.mkdir()
    (folder / ENCODER_FOLDER).symlink_to(tiny_bert)
    generator = torch.Generator().manual_seed(0)
    train = torch.randint(3, 22, (40, 8), generator=generator, dtype=torch.int32)
    validation = torch.randint(3, 26, (6, 8), generator=generator, dtype=torch.int32)
    save_file({"train": train, "validation": validation}, folder / ROWS_FILE)
    decoding = {
        "tokenizer": tiny_bert,
        "encoder": {"class": "PretrainedEncoder", "name_or_path": tiny_bert, "layer": 2},
        "kept_ids": [0, 1, 3, *range(4, 22)],
        "latent_mean": [0.1] * 16,
        "latent_std": 0.5,
        "max_length": 8,
        "max_condition_length": None,
        "pad_mode": "pad",
        "pad_id": 0,
        "eos_id": 2,
        "unknown_id": 1,
    }
    (folder / DECODING_FILE).write_text(json.dumps(decoding))
    return folder
