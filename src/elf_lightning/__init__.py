"""Embedded Language Flows (arXiv 2605.10938) on PyTorch Lightning."""

from typing import TYPE_CHECKING

from elf_lightning.lazy import on_first_use

if TYPE_CHECKING:
    from elf_lightning.modules.generator import ELF

__version__ = "0.1.0"
__all__ = ["ELF", "__version__"]

__getattr__ = on_first_use(__name__, {"modules.generator": ["ELF"]})
