"""Latents of all rows on disk, read instead of running the encoder."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from elf_lightning.errors import UserError


@dataclass(frozen=True)
class LatentsFile:
    """Normalised latents in bfloat16, memory-mapped.

    Attributes:
        path: the file.
        shape: rows N, positions S, channels C.
    """

    path: Path
    shape: tuple[int, int, int]

    @property
    def num_bytes(self) -> int:
        """Size of the whole file."""
        return math.prod(self.shape) * torch.bfloat16.itemsize

    @cached_property
    def _latents(self) -> Tensor:
        flat = torch.from_file(str(self.path), size=math.prod(self.shape), dtype=torch.bfloat16)
        return flat.view(self.shape)

    def __getstate__(self) -> dict[str, object]:
        """What a worker process needs: it maps the file itself."""
        return {"path": self.path, "shape": self.shape}

    def read(self, indices: Tensor) -> Tensor:
        """Latents (B, S, C) of these rows, in bfloat16."""
        return self._latents[indices]

    def write(self, batches: Iterable[Tensor]) -> None:
        """Write the latents (B, S, C) of all rows, in order."""
        with self.path.open("wb") as file:
            for latents in batches:
                file.write(latents.to("cpu", torch.bfloat16).contiguous().view(torch.uint8).numpy().data)


@dataclass(frozen=True)
class SplitLatents:
    """A split's latents, and those of label-dropped rows where rows may be dropped.

    Attributes:
        plain: latents of rows whose target sees the condition.
        dropped: latents of rows whose target does not; None for unconditional text.
    """

    plain: LatentsFile
    dropped: LatentsFile | None = None

    @classmethod
    def at(cls, folder: Path, split: str, shape: tuple[int, int, int], label_drop: bool) -> SplitLatents:
        """The files of one split in a cache folder, written or not."""
        plain = LatentsFile(folder / f"{split}.latents", shape)
        return cls(plain, LatentsFile(folder / f"{split}.dropped", shape) if label_drop else None)

    @property
    def files(self) -> list[LatentsFile]:
        """All files of the split."""
        return [self.plain] if self.dropped is None else [self.plain, self.dropped]

    def read(self, indices: Sequence[int], label_drop: Tensor) -> Tensor:
        """Latents (B, S, C) of these rows, (B,) of which are label-dropped."""
        rows = torch.tensor(indices)
        latents = self.plain.read(rows)
        if self.dropped is not None and label_drop.any():
            latents[label_drop] = self.dropped.read(rows[label_drop])
        return latents


def require_space(folder: Path, num_bytes: int) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises:
        UserError: with the needed and the free space.
    """
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise UserError(
            f"data.cache_latents needs {num_bytes / 1e9:.1f} GB in '{folder}' and {free / 1e9:.1f} GB are "
            "free; free some, choose another data.cache_dir, or set data.cache_latents to false"
        )
