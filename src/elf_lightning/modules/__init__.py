"""The LightningModule and its training; generation, prompting and evaluation; `ELF`, a trained model to use.

The public name is imported on first use: `ELF` needs no Lightning, which takes seconds.
"""

from typing import TYPE_CHECKING

from elf_lightning.lazy import on_first_use

if TYPE_CHECKING:
    from elf_lightning.modules.elf import ELFModule

__all__ = ["ELFModule"]

__getattr__ = on_first_use(__name__, {"elf": ["ELFModule"]})
