"""What `torch.compile` needs: something that builds what it writes, and room for all graphs of a run."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from inspect import signature
from typing import Any

import torch

from elf_lightning.errors import UserError

MAX_GRAPHS = 64
"""Of one function, in a process. A run that trains, validates and samples makes 8 for its network: with and
without gradient, for the first number of rows, for one and for any. Torch keeps 8 by itself; past its limit
everything runs uncompiled, at most with a warning."""
DEFAULT_COMPILERS = {"darwin": "clang++", "win32": "cl"}
"""What torch calls where the environment has no `CXX`; `g++` on all other systems."""


def require_compiler(setting: str, device: torch.device) -> None:
    """Refuse to compile where nothing can build what `torch.compile` writes.

    Args:
        setting: what asks for it, as the user writes it.
        device: where the network will run.

    Raises:
        UserError: without a C++ compiler on a CPU, or without Triton and a C compiler on a GPU.
    """
    if device.type == "cuda":
        if find_spec("triton") is None:
            raise UserError(f"{setting} needs Triton on a GPU: `pip install triton`, or leave {setting} out")
        compilers = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
        if not any(map(shutil.which, compilers)):
            raise UserError(
                f"{setting} needs a C compiler on a GPU, for Triton, and there is no "
                f"{' or '.join(compilers)}: install one, name another in the environment variable CC, or "
                f"leave {setting} out"
            )
    elif device.type == "cpu":
        compiler = os.environ.get("CXX", DEFAULT_COMPILERS.get(sys.platform, "g++"))
        if shutil.which(compiler) is None:
            raise UserError(
                f"{setting} needs a C++ compiler on a CPU, and there is no '{compiler}': install it, name "
                f"another in the environment variable CXX, or leave {setting} out"
            )


def room_for_graphs() -> dict[str, Any]:
    """Arguments for `torch.compile` that let it keep `MAX_GRAPHS` graphs, or more if it may already.

    Older torch knows no such argument and is told once for the whole process.
    """
    from torch._dynamo import config  # takes a second, and only those wait for it who compile

    most = max(config.recompile_limit, MAX_GRAPHS)
    if "recompile_limit" in signature(torch.compile).parameters:
        return {"recompile_limit": most}
    config.recompile_limit = most
    return {}
