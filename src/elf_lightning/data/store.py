"""What the encoder makes of the prepared rows, kept on disk: latent_statistics, and latents where asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from elf_lightning.batch import TokenBatch
from elf_lightning.codec.latents import Embedder, LatentStatistics, measure_latent_statistics
from elf_lightning.data.collate import Collate
from elf_lightning.data.latents_cache import LatentsFile, SplitLatents, require_space
from elf_lightning.data.prepare import Preparation, cache_key, written_once
from elf_lightning.encoders import Encoder, weights_stamp

MEASURED_TOKENS = 32_768
"""Positions over which the latents' mean and standard deviation are measured, about."""
EMBEDDED_TOKENS = 8_192
"""Positions that the encoder takes at a time when it fills the cache, about."""


@dataclass(frozen=True)
class LatentsStore:
    """The latents of prepared rows.

    Args:
        preparation: the rows.
        encoder: makes the latents.
        collate: makes the batches that the encoder sees.
        label_drop: whether rows may be dropped, so that their targets' latents are needed both ways.
        given: what to normalise by; None measures it over the first training rows.
    """

    preparation: Preparation
    encoder: Encoder
    collate: Collate
    label_drop: bool = False
    given: LatentStatistics | None = None

    def latent_statistics(self, device: torch.device) -> LatentStatistics:
        """What latents are normalised by; measured once and kept."""
        if self.given is not None:
            return self.given
        folder = self._folder("latent_statistics")
        with written_once(folder) as unfinished:
            if unfinished is not None:
                self.preparation.run()
                rows = max(1, MEASURED_TOKENS // self.collate.max_length)
                split = "train" if "train" in self.preparation.splits() else "validation"
                latent_statistics = measure_latent_statistics(
                    self.encoder.load().to(device), self._batches(split, device, rows)
                )
                (unfinished / "latent_statistics.json").write_text(json.dumps(asdict(latent_statistics)))
        return LatentStatistics(**json.loads((folder / "latent_statistics.json").read_text()))

    def write(self, device: torch.device) -> None:
        """Embed all rows of all splits, unless that is done.

        Raises:
            UserError: if the disk has not the space.
        """
        latent_statistics = self.latent_statistics(device)
        folder = self._latents_folder(latent_statistics)
        with written_once(folder) as unfinished:
            if unfinished is None:
                return
            splits = {name: self._at(unfinished, name) for name in self.preparation.splits()}
            num_bytes = sum(file.num_bytes for split in splits.values() for file in split.files)
            require_space(self.preparation.cache_dir, num_bytes)
            embedder = Embedder(self.encoder, latent_statistics)
            for name, latents in splits.items():
                self._write(embedder, name, latents.plain, device, drop=False)
                if latents.dropped is not None:
                    self._write(embedder, name, latents.dropped, device, drop=True)

    def split(self, name: str, device: torch.device) -> SplitLatents:
        """The written latents of a split."""
        return self._at(self._latents_folder(self.latent_statistics(device)), name)

    def _at(self, folder: Path, split: str) -> SplitLatents:
        shape = (len(self.preparation.rows(split)), self.collate.max_length, self.encoder.latent_size)
        return SplitLatents.at(folder, split, shape, self.label_drop and split == "train")

    def _write(
        self, embedder: Embedder, split: str, file: LatentsFile, device: torch.device, drop: bool
    ) -> None:
        from rich.progress import track

        batches = self._batches(split, device)
        latents = (
            embedder.tokens(replace(batch, label_drop=torch.full_like(batch.label_drop, drop))).latents
            for batch in batches
        )
        size = max(1, EMBEDDED_TOKENS // self.collate.max_length)
        file.write(track(latents, f"Embedding {split}", total=-(-file.shape[0] // size)))

    def _batches(self, split: str, device: torch.device, count: int | None = None) -> Iterator[TokenBatch]:
        rows = self.preparation.rows(split)
        count = len(rows) if count is None else min(count, len(rows))
        size = max(1, EMBEDDED_TOKENS // self.collate.max_length)
        for start in range(0, count, size):
            yield self.collate(rows.read(range(start, min(start + size, count)))).to(device)

    def _folder(self, kind: str, **parts: object) -> Path:
        key = cache_key(
            rows=self.preparation.key,
            encoder=self.encoder.identity(),
            weights=weights_stamp(self.encoder.name_or_path),
            max_length=self.collate.max_length,
            pad_mode=self.collate.pad_mode,
            **parts,
        )
        return self.preparation.cache_dir / f"{kind}-{key}"

    def _latents_folder(self, latent_statistics: LatentStatistics) -> Path:
        return self._folder(
            "latents", latent_statistics=asdict(latent_statistics), label_drop=self.label_drop
        )
