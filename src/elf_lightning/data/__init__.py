"""Text -> tokens -> batches of latents.

The public names are imported on first use: only the DataModule needs Lightning, which takes seconds.
"""

from typing import TYPE_CHECKING

from elf_lightning.lazy import on_first_use

if TYPE_CHECKING:
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

__getattr__ = on_first_use(
    __name__,
    {
        "collate": ["Collate"],
        "datamodule": ["ELFDataModule"],
        "detokenize": ["Detokenizer"],
        "rows": ["Row"],
        "sources": [
            "DatasetFiles",
            "HubDataset",
            "JsonLines",
            "KingJamesToWeb",
            "SavedDataset",
            "Source",
            "TextFiles",
            "WebBible",
        ],
    },
)
