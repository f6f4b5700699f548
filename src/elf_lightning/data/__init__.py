"""Text -> tokens -> batches of latents."""

from elf_lightning.data.collate import Collate
from elf_lightning.data.datamodule import ELFDataModule
from elf_lightning.data.detokenize import Detokenizer
from elf_lightning.data.rows import Row
from elf_lightning.data.sources import (
    DatasetFiles,
    HubDataset,
    JsonLines,
    KingJamesToWeb,
    SavedDataset,
    Source,
    TextFiles,
    WebBible,
)

__all__ = [
    "Collate",
    "DatasetFiles",
    "Detokenizer",
    "ELFDataModule",
    "HubDataset",
    "JsonLines",
    "KingJamesToWeb",
    "Row",
    "SavedDataset",
    "Source",
    "TextFiles",
    "WebBible",
]
