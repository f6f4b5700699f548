"""The packed inputs on a device: rows with their latents, and ids back to text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.batches import full_rows
from elf_lightning.batch import LatentBatch
from elf_lightning.encoders import PretrainedEncoder, read_tokenizer
from elf_lightning.flow import seeded_generator

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ENCODER_FOLDER, ROWS_FILE, DECODING_FILE = "encoder", "rows.safetensors", "decoding.json"
"""What lies in a folder of packed inputs."""
EMBEDDED_ROWS = 1024
"""Rows that the encoder takes at a time."""


@dataclass(frozen=True)
class Corpus:
    """All rows of the packed corpus.

    Attributes:
        train: training rows, in the network's ids.
        validation: validation rows.
        decoding: the decoding state, as checkpoints keep it.
        tokenizer: the encoder's.
    """

    train: LatentBatch
    validation: LatentBatch
    decoding: dict[str, Any]
    tokenizer: PreTrainedTokenizerBase

    def batches(self, rows: int, seed: int) -> Iterator[LatentBatch]:
        """Shuffled training batches without end; the rows of an epoch that fill no batch are left out."""
        device = self.train.latents.device
        rows, epoch = min(rows, len(self.train)), 0
        while True:
            order = torch.randperm(len(self.train), generator=seeded_generator("order", seed, epoch))
            for start in range(0, len(order) - rows + 1, rows):
                places = order[start : start + rows].to(device)
                yield self.train.map(partial(torch.index_select, dim=0, index=places))
            epoch += 1

    def texts(self, ids: Tensor) -> list[str]:
        """Rows (N, S) of the network's ids as texts, without padding and ends."""
        kept, closing = self.decoding["kept_ids"], {self.decoding["pad_id"], self.decoding["eos_id"]}
        rows = [[kept[token] for token in row if token not in closing] for row in ids.tolist()]
        return self.tokenizer.batch_decode(rows)


@torch.no_grad()
def read_corpus(folder: Path, device: torch.device) -> Corpus:
    """The corpus in a folder of packed inputs, embedded on the device.

    Raises:
        SystemExit: if the folder is not there.
    """
    if not (folder / ROWS_FILE).is_file():
        raise SystemExit(
            f"--inputs {folder}: no packed inputs; make them: python -m benchmarks.gpu.pack_inputs"
        )
    decoding = json.loads((folder / DECODING_FILE).read_text())
    encoder = PretrainedEncoder(str(folder / ENCODER_FOLDER), decoding["encoder"]["layer"]).load().to(device)
    splits = {
        name: _embedded(ids.long().to(device), encoder, decoding)
        for name, ids in load_file(folder / ROWS_FILE).items()
    }
    return Corpus(**splits, decoding=decoding, tokenizer=read_tokenizer(str(folder / ENCODER_FOLDER)))


def _embedded(ids: Tensor, encoder: PretrainedEncoder, decoding: dict[str, Any]) -> LatentBatch:
    """Rows in tokenizer ids (N, S) with normalised latents, in the network's ids."""
    mean = torch.tensor(decoding["latent_mean"], device=ids.device)
    latents = []
    for start in range(0, len(ids), EMBEDDED_ROWS):
        rows = ids[start : start + EMBEDDED_ROWS]
        seen = torch.ones(len(rows), 1, rows.shape[1], rows.shape[1], dtype=torch.bool, device=ids.device)
        latents.append((encoder(rows, seen) - mean) / decoding["latent_std"])
    kept = torch.tensor(decoding["kept_ids"], device=ids.device)
    places = torch.searchsorted(kept, ids).clamp(max=len(kept) - 1)
    known = torch.where(kept[places] == ids, places, decoding["unknown_id"])
    return full_rows(known, torch.cat(latents))
