"""Public names that are imported on first use: what a command does not need, nobody waits for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def on_first_use(package: str, names: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """A package's `__getattr__`, which imports the module of a public name when the name is asked for.

    Args:
        package: the package's `__name__`.
        names: the public names by the module, inside the package, that has them.
    """
    modules = {name: module for module, inside in names.items() for name in inside}

    def __getattr__(name: str) -> Any:  # noqa: N807
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{modules[name]}"), name)
        setattr(sys.modules[package], name, value)  # asked for here once
        return value

    return __getattr__
