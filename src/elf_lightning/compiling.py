"""Requirements of `torch.compile`: a compiler, and a limit on graphs that fits a run."""

import os
import shutil
import sys
from contextlib import suppress
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from sysconfig import get_path
from typing import Any

import torch

from elf_lightning.errors import UserError

MAX_GRAPHS = 64
"""Graphs of one function in a process. A run that trains, validates and samples makes 8 for its network: with
and without gradient, for the first batch size, for 1 and for any. Torch keeps 8 by default; beyond its limit
everything runs uncompiled, with at most a warning."""
DEFAULT_COMPILERS = {"darwin": "clang++", "win32": "cl"}
"""The compiler that torch calls if `CXX` is not set, by platform; `g++` on all others."""


def require_compiler(setting: str, device: torch.device) -> None:
    """Refuse a `setting`, as the user writes it, without the compiler that it needs on `device`."""
    if device.type == "cuda":
        if find_spec("triton") is None:
            raise UserError(f"{setting} needs Triton on a GPU: `pip install triton`, or leave {setting} out")
        what, variable, default = "C compiler on a GPU, for Triton", "CC", ["gcc", "clang"]
    elif device.type == "cpu":
        what, variable = "C++ compiler on a CPU", "CXX"
        default = [DEFAULT_COMPILERS.get(sys.platform, "g++")]
    else:
        return
    compilers = [os.environ[variable]] if variable in os.environ else default
    if not any(map(shutil.which, compilers)):
        raise UserError(
            f"{setting} needs a {what}, and {' or '.join(compilers)} was not found: install it, name "
            f"another in the environment variable {variable}, or leave {setting} out"
        )
    if device.type == "cuda" and not _has_python_header():
        raise UserError(
            f"{setting} needs Python's header files on a GPU, for Triton, and Python.h was not found: "
            f"install them (on Debian, `apt install python3-dev`), or leave {setting} out"
        )


def _has_python_header() -> bool:
    """Whether the C compiler finds what Triton's launcher includes; on Windows, Triton brings it along."""
    found = os.pathsep.join(os.environ.get(name, "") for name in ("CPATH", "C_INCLUDE_PATH"))
    folders = [get_path("include", "posix_prefix"), *found.split(os.pathsep)]
    return sys.platform == "win32" or any(Path(folder, "Python.h").is_file() for folder in folders)


def can_compile(device: torch.device) -> bool:
    """Whether `device` is a GPU with the compilers that `torch.compile` needs: there it pays off."""
    with suppress(UserError):
        require_compiler("compile", device)
        return device.type == "cuda"
    return False


def room_for_graphs() -> dict[str, Any]:
    """Arguments with which `torch.compile` keeps `MAX_GRAPHS` graphs, or more if it already may.

    Older torch has no such argument; there the limit is set for the whole process.
    """
    from torch._dynamo import config  # takes a second: imported only to compile

    limit = max(config.recompile_limit, MAX_GRAPHS)
    if "recompile_limit" in signature(torch.compile).parameters:
        return {"recompile_limit": limit}
    config.recompile_limit = limit
    return {}


def computes_in_bfloat16(device: str) -> bool:
    """Whether autocast computes in bfloat16 on devices of this type."""
    if device == "meta":  # which has no autocast
        return False
    return torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16
