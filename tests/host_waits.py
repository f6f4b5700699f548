"""Where the host would wait for a GPU, seen in runs on a CPU."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


class HostWaits:
    """Notes where the host would wait for a GPU, in a run on a CPU.

    It waits for values that it reads, and for results whose size follows from values.

    Attributes:
        seen: how often, by `file:function` of the caller outside torch.
    """

    READS = ("tolist", "cpu", "numpy", "__array__", "__repr__")
    """On a CPU they are no operators."""
    OPERATORS = (
        "_local_scalar_dense",  # `item`, `float`, `bool` and the like; in inference mode the next two
        "item",
        "is_nonzero",
        "nonzero",
        "argwhere",
        "masked_select",
        "equal",
        "unique",
        "_unique",
        "bincount",
        "repeat_interleave",
    )
    INDEXING = ("index", "index_put", "_index_put_impl", "_unsafe_index")
    INSIDE = (f"{Path(torch.__file__).parent}{os.sep}", __file__)

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def note(self) -> None:
        frame = sys._getframe()
        while frame.f_code.co_filename.startswith(self.INSIDE):
            assert frame.f_back is not None
            frame = frame.f_back
        path = frame.f_code.co_filename.rpartition("site-packages/")[2].rpartition("/src/")[2]
        name = frame.f_code.co_qualname.partition(".<locals>")[0]
        self.seen[f"{path}:{name}"] += 1

    def __enter__(self) -> HostWaits:
        self._modes = ExitStack()
        self._modes.enter_context(_Calls(self))
        self._modes.enter_context(_Operators(self))
        return self

    def __exit__(self, *_: object) -> None:
        self._modes.close()


class _Calls(TorchFunctionMode):
    def __init__(self, waits: HostWaits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        moved = name == "to" and "cpu" in [value for value in args[1:] if isinstance(value, str)]
        if name in HostWaits.READS or moved:
            self.waits.note()
        return func(*args, **kwargs or {})


class _Operators(TorchDispatchMode):
    def __init__(self, waits: HostWaits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name.rstrip("_") in HostWaits.INDEXING and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        by_one_condition = func is torch.ops.aten.where.default
        if by_mask or by_one_condition or name.startswith(HostWaits.OPERATORS):
            self.waits.note()
        return func(*args, **kwargs or {})


WAYS_TO_WAIT: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x.sum()),
    "bool": lambda x: bool(x.sum() > 0),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "to cpu": lambda x: x.to("cpu"),
    "numpy": lambda x: x.detach().numpy(),
    "array": lambda x: np.asarray(x.detach()),
    "mask": lambda x: x[x > 0],
    "mask assigned": lambda x: x.clone().index_put_((x > 0,), x.new_zeros(1)),
    "masked_select": lambda x: x.masked_select(x > 0),
    "nonzero": lambda x: x.nonzero(),
    "where": lambda x: torch.where(x > 0),
    "equal": lambda x: torch.equal(x, x + 1),
    "unique": lambda x: x.unique(),
    "printed": lambda x: str(x.sum()),
}
