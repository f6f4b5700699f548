"""Reads files written by `torch.save` without running code in them."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from elf_lightning.errors import UserError


def read_torch_file(path: Path) -> dict[str, Any]:
    """The dictionary in a file written by `torch.save`; only tensors and plain types are accepted.

    Tensors are memory-mapped: clone those to keep.

    Raises:
        UserError: for a file that is empty, truncated, not written by torch, or needs to run code.
    """
    if path.stat().st_size == 0:
        raise UserError("the file is empty; use another file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise _refused(str(error)) from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise _damaged() from error
    if not isinstance(content, dict):
        raise UserError(f"the file contains a {type(content).__name__}, not a model; use another file")
    return content


def _refused(reason: str) -> UserError:
    if "GLOBAL" in reason or "Unsupported" in reason:
        return UserError(
            "the file contains more than tensors and plain values, and reading it could run malicious "
            "code, so it was not read; ask its author for a file with only weights"
        )
    return _damaged()


def _damaged() -> UserError:
    return UserError("the file is damaged, truncated or not a checkpoint; copy it again or use another file")


def tensors(content: Mapping[str, Any], entry: str) -> dict[str, Tensor]:
    """The state dict at `entry`, copied into memory.

    Raises:
        UserError: if it is not a state dict.
    """
    found = content.get(entry)
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"its entry '{entry}' is not a state dict of tensors; use another file")
    return {str(name): value.clone() for name, value in found.items()}
