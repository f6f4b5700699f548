"""Embedded Language Flows (arXiv 2605.10938) on PyTorch Lightning."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elf_lightning.modules.generator import ELF

__version__ = "0.1.0"
__all__ = ["ELF", "__version__"]


def __getattr__(name: str) -> Any:
    """`ELF` on first use, so that importing the package stays quick."""
    if name != "ELF":
        raise AttributeError(f"module 'elf_lightning' has no attribute '{name}'")
    from elf_lightning.modules.generator import ELF

    return ELF
