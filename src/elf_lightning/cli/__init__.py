"""The `lightning` and `elf` commands."""

from elf_lightning.cli.main import main

__all__ = ["main"]
