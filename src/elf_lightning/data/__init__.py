"""Text -> tokens -> batches of latents."""

from elf_lightning.data.bible import WebBible
from elf_lightning.data.datamodule import ELFDataModule
from elf_lightning.data.detokenize import Detokenizer
from elf_lightning.data.sources import Source

__all__ = ["Detokenizer", "ELFDataModule", "Source", "WebBible"]
