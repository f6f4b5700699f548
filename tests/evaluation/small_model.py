"""A small model that says something without training, with data to compare it with."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from elf_lightning.data import ELFDataModule, JsonLines, TextFiles
from elf_lightning.encoders import PretrainedEncoder
from elf_lightning.evaluation import EvaluationSettings
from elf_lightning.metrics import ScoringModelSettings
from elf_lightning.network import NetworkConfig
from elf_lightning.sampling import SamplingSettings
from elf_lightning.training import ELFModule

TEXT = "in the beginning god created heaven and earth now was without form darkness upon face of deep"
WORDS = TEXT.split()


def sentences(count: int) -> list[str]:
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=11)) for _ in range(count)]


def write_lines(folder: Path) -> TextFiles:
    """40 documents, 10 of them held out."""
    path = folder / "lines.txt"
    if not path.exists():  # data is known by its file's date
        path.write_text("\n".join(sentences(40)))
    return TextFiles(str(path), document="line", validation_fraction=0.25)


def write_pairs(folder: Path) -> JsonLines:
    """40 pairs, 10 of them held out: the condition is the target's second half."""
    path = folder / "pairs.jsonl"
    lines = [json.dumps({"input": text[30:], "output": text}) for text in sentences(40)]
    path.write_text("\n".join(lines))
    return JsonLines(str(path), validation_fraction=0.25)


def make_data(folder: Path, encoder: str, paired: bool = False) -> ELFDataModule:
    return ELFDataModule(
        write_pairs(folder) if paired else write_lines(folder),
        PretrainedEncoder(encoder),
        max_length=24 if paired else 12,
        max_condition_length=10 if paired else None,
        packing="truncate",
        pad_mode="eos" if paired else "pad",
        batch_size=4,
        cache_dir=str(folder / "cache"),
        latent_mean=0.0,
        latent_std=1.0,
    )


def make_model(data: ELFDataModule, scoring_model: str, seed: int = 1, **evaluation: Any) -> ELFModule:
    settings: dict[str, Any] = {
        "num_samples": 5,
        "seeds": [0, 7],
        "batch_size": 2,
        "scoring_model": ScoringModelSettings(scoring_model, context_length=32),
    }
    model = ELFModule.for_data(
        data,
        network=NetworkConfig(hidden_size=16, depth=2, num_heads=2, bottleneck_size=8),
        sampling=SamplingSettings(steps=2),
        evaluation=EvaluationSettings(**settings | evaluation),
    )
    generator = torch.Generator().manual_seed(seed)
    torch.nn.init.normal_(model.network.latent_head.linear.weight, std=0.3, generator=generator)
    torch.nn.init.normal_(model.network.token_head.unembed.weight, std=0.5, generator=generator)
    return model


def make_trainer(folder: Path, **settings: Any) -> Trainer:
    plain: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "default_root_dir": str(folder),
    }
    return Trainer(**plain | settings)
