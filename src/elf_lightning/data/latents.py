"""The encoder's output for prepared examples, kept on disk: latent statistics and, if asked for, latents."""

import json
import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from elf_lightning.batch import LatentBatch, TokenBatch
from elf_lightning.codec.latents import Embedder, LatentStatistics, measure_latent_statistics
from elf_lightning.data.cache import cache_key, reading, written_once
from elf_lightning.data.examples import Collate, Example
from elf_lightning.data.prepare import Preparation
from elf_lightning.encoders import Encoder, weights_stamp
from elf_lightning.errors import UserError

MEASURED_TOKENS = 32_768  # positions over which the latent statistics are measured, about
EMBEDDED_TOKENS = 8_192  # positions that are embedded at a time when the cache is filled, about


@dataclass(frozen=True)
class LatentsFile:
    """A split's normalised latents in bfloat16, memory-mapped, of shape (V, N, S, C).

    Of V versions, the second, if there is one, holds the latents of label-dropped examples, whose targets
    do not see the condition.
    """

    path: Path
    shape: tuple[int, int, int, int]

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

    def read(self, indices: Sequence[int], label_drop: Tensor) -> Tensor:
        """Latents (B, S, C) of these examples, in bfloat16, where `label_drop` is (B,) boolean."""
        return self._latents[label_drop.long(), torch.tensor(indices)]

    def collate(self, collate: Collate, examples: Sequence[Example]) -> LatentBatch:
        """The batch of these examples with its latents (B, S, C), in bfloat16."""
        tokens = collate(examples)
        latents = self.read([example.index for example in examples], tokens.label_drop)
        return LatentBatch(**vars(tokens), latents=latents[:, : tokens.input_ids.shape[1]])

    def write(self, batches: Iterable[Tensor]) -> None:
        """Write the latents (B, S, C) of all examples in order, one version after the other."""
        with self.path.open("wb") as file:
            for latents in batches:
                file.write(latents.to("cpu", torch.bfloat16).contiguous().view(torch.uint8).numpy().data)


@dataclass(frozen=True)
class LatentsStore:
    """The latents of prepared examples, in batches as `collate` makes them.

    With `label_drop`, training latents are kept both with and without the condition. Latent statistics that
    are not `given` are measured over the first training examples.
    """

    preparation: Preparation
    encoder: Encoder
    collate: Collate
    label_drop: bool = False
    given: LatentStatistics | None = None

    def __post_init__(self) -> None:
        length, limit = self.collate.max_length, self.encoder.max_length
        if limit is not None and length > limit:
            raise UserError(
                f"data.max_length {length} is beyond the limit of encoder '{self.encoder.name_or_path}'; "
                f"choose at most {limit}"
            )

    def latent_statistics(self, device: torch.device) -> LatentStatistics:
        """What normalises the latents; measured once and kept."""
        if self.given is not None:
            return self.given
        folder = self._folder("latent_statistics")
        with written_once(folder, self.preparation.rebuild) as unfinished:
            if unfinished is not None:
                self.preparation.run()
                count = max(1, MEASURED_TOKENS // self.collate.max_length)
                split = "train" if "train" in self.preparation.splits() else "validation"  # of a stream
                measured = measure_latent_statistics(self.encoder, self._batches(split, device, count))
                (unfinished / "latent_statistics.json").write_text(json.dumps(asdict(measured)))
        with reading(folder):
            return LatentStatistics(**json.loads((folder / "latent_statistics.json").read_text()))

    def write(self, device: torch.device) -> None:
        """Embed all examples of all splits, unless that is done."""
        from rich.progress import track

        statistics, parent = self.latent_statistics(device), self.preparation.cache_dir
        with written_once(self._latents_folder(statistics), self.preparation.rebuild) as unfinished:
            if unfinished is None:
                return
            files = {name: self._file(unfinished, name) for name in self.preparation.splits()}
            needed, free = sum(file.num_bytes for file in files.values()), shutil.disk_usage(parent).free
            if needed > free:
                raise UserError(
                    f"data.cache_latents needs {needed / 1e9:.1f} GB in '{parent}' and {free / 1e9:.1f} GB "
                    "are free; free some, choose another data.cache_dir, or set data.cache_latents to false"
                )
            embedder = Embedder(self.encoder, statistics)
            for split, file in files.items():
                both = (
                    replace(batch, label_drop=torch.full_like(batch.label_drop, bool(drop)))
                    for drop in range(file.shape[0])
                    for batch in self._batches(split, device)
                )
                total = file.shape[0] * math.ceil(file.shape[1] / self._batch_size)
                batches = track(both, f"Embedding {split}", total=total)
                file.write(embedder.tokens(batch).latents for batch in batches)

    def split(self, name: str, device: torch.device) -> LatentsFile:
        """The written latents of a split."""
        file = self._file(self._latents_folder(self.latent_statistics(device)), name)
        with reading(file.path.parent):
            if (found := file.path.stat().st_size) != file.num_bytes:
                raise ValueError(f"{file.path.name} has {found:,} bytes instead of {file.num_bytes:,}")
        return file

    def _file(self, folder: Path, split: str) -> LatentsFile:
        versions = 2 if self.label_drop and split == "train" else 1
        examples = len(self.preparation.examples(split))
        shape = (versions, examples, self.collate.max_length, self.encoder.latent_size)
        return LatentsFile(folder / f"{split}.latents", shape)

    @property
    def _batch_size(self) -> int:
        return max(1, EMBEDDED_TOKENS // self.collate.max_length)

    def _batches(self, split: str, device: torch.device, count: int | None = None) -> Iterator[TokenBatch]:
        examples = self.preparation.examples(split)
        indices = range(len(examples))[:count]
        for start in range(0, len(indices), self._batch_size):
            yield self.collate(examples.read(indices[start : start + self._batch_size])).to(device)

    def _latents_folder(self, statistics: LatentStatistics) -> Path:
        return self._folder("latents", latent_statistics=asdict(statistics), label_drop=self.label_drop)

    def _folder(self, kind: str, **parts: object) -> Path:
        key = cache_key(
            tokens=self.preparation.key,
            encoder=self.encoder.identity(),
            weights=weights_stamp(self.encoder.name_or_path),
            max_length=self.collate.max_length,
            pad_mode=self.collate.pad_mode,
            **parts,
        )
        return self.preparation.cache_dir / f"{kind}-{key}"
