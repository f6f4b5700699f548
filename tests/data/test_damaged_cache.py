"""A damaged cache is one line that names its folder, and is made again on request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from elf_lightning.data import ELFDataModule
from elf_lightning.errors import UserError

SETTINGS = {"cache_latents": True, "restrict_vocabulary": True, "packing": "sentences"}
FILES = ["tokens", "cuts", "vocabulary", "latent_statistics", "latents"]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def first_batch(data: ELFDataModule) -> torch.Tensor:
    data.prepare_data()
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert batch.latents is not None
    return batch.latents


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
@pytest.mark.parametrize("kind", FILES)
def test_damage_is_one_line_and_is_mended_on_request(
    make_data: Callable[..., ELFDataModule], tmp_path: Path, kind: str, damage: Callable[[Path], None]
) -> None:
    whole = first_batch(make_data(**SETTINGS))
    (folder,) = (path for path in (tmp_path / "cache").glob(f"{kind}-*") if path.is_dir())
    file = next(path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "digests.json")
    damage(file)
    with pytest.raises(UserError, match=f"^folder '{folder}': .*{file.name} is (damaged|missing)") as error:
        first_batch(make_data(**SETTINGS))
    assert "delete the folder, or set data.rebuild_cache to true" in str(error.value)
    assert torch.equal(first_batch(make_data(**SETTINGS, rebuild_cache=True)), whole)
    assert torch.equal(first_batch(make_data(**SETTINGS)), whole)


@pytest.mark.parametrize("kind", FILES)
def test_folders_of_older_versions_have_no_digests(
    make_data: Callable[..., ELFDataModule], tmp_path: Path, kind: str
) -> None:
    whole = first_batch(make_data(**SETTINGS))
    for path in (tmp_path / "cache").rglob("digests.json"):
        path.unlink()
    assert torch.equal(first_batch(make_data(**SETTINGS)), whole)
    (folder,) = (path for path in (tmp_path / "cache").glob(f"{kind}-*") if path.is_dir())
    cut(next(path for path in sorted(folder.rglob("*")) if path.is_file()))
    with pytest.raises(UserError, match=r"is damaged .*delete the folder"):
        first_batch(make_data(**SETTINGS))
