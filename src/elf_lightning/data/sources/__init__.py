"""Where text comes from: one small class a kind, chosen in YAML by its name."""

from elf_lightning.data.sources.base import CONDITION_IDS, CONDITION_TEXT, IDS, TEXT, Source
from elf_lightning.data.sources.bible import KingJamesToWeb, WebBible
from elf_lightning.data.sources.dataset_files import DatasetFiles
from elf_lightning.data.sources.hub import HubDataset
from elf_lightning.data.sources.json_lines import JsonLines
from elf_lightning.data.sources.saved import SavedDataset
from elf_lightning.data.sources.text_files import TextFiles

__all__ = [
    "CONDITION_IDS",
    "CONDITION_TEXT",
    "IDS",
    "TEXT",
    "DatasetFiles",
    "HubDataset",
    "JsonLines",
    "KingJamesToWeb",
    "SavedDataset",
    "Source",
    "TextFiles",
    "WebBible",
]
