"""A wrong checkpoint is one line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SAMPLE = ["--num", "1", "--device", "cpu"]


def test_hub_folders(fuzz: Callable[..., None], works_or_one_line: Callable[..., None], hub: Path) -> None:
    def check(nearly: Any) -> None:
        shutil.rmtree("hub", ignore_errors=True)
        shutil.copytree(hub, "hub")
        file = nearly.one_of("config.json", "config.json", "digests.json", "model.safetensors")
        nearly.file(Path("hub", file))
        if nearly.one_of(True, True, False):  # a digest would refuse any change
            Path("hub", "digests.json").unlink()
        works_or_one_line(["sample", "--checkpoint", "hub", *SAMPLE])

    fuzz(check, few=20, many=1_000)


def test_lightning_checkpoints(
    fuzz: Callable[..., None], works_or_one_line: Callable[..., None], trained: Path
) -> None:
    content = torch.load(trained, weights_only=True)

    def check(nearly: Any) -> None:
        description = content | {"elf": nearly.changed(content["elf"])}
        torch.save(nearly.one_of(description, nearly.changed(content)), "last.ckpt")
        if nearly.one_of(0, 0, 0, 1):
            nearly.file(Path("last.ckpt"))
        works_or_one_line(["sample", "--checkpoint", "last.ckpt", *SAMPLE])

    fuzz(check, few=10, many=700)


def test_official_checkpoints(
    fuzz: Callable[..., None], works_or_one_line: Callable[..., None], official: Path
) -> None:
    content = torch.load(official, weights_only=True)

    def check(nearly: Any) -> None:
        Path("new").unlink(missing_ok=True)
        torch.save(nearly.changed(content), "checkpoint_3")
        works_or_one_line(["convert", "checkpoint_3", "new", "--format", "official"])

    fuzz(check, few=20, many=300)
