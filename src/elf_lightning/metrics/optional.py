"""Packages that only some metrics need."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from elf_lightning.errors import UserError


def import_optional(module: str, package: str) -> ModuleType:
    """Import `module` of the optional dependency `package`.

    Raises:
        UserError: if it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(f"{module} is missing ({error}); pip install {package}") from error
