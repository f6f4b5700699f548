"""Noise -> latents -> tokens: grids, guidance, solvers, the sampler and decoding.

The public names are imported on first use: the command line needs the settings alone, and torch takes
seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elf_lightning.sampling.field import KnownLatents, LatentField
    from elf_lightning.sampling.grid import time_grid
    from elf_lightning.sampling.guidance import ClassifierFreeGuidance, TwoPassGuidance
    from elf_lightning.sampling.repetition import measure_direction
    from elf_lightning.sampling.sampler import Infill, Sampler, SampleResult, Step, Trajectory
    from elf_lightning.sampling.settings import SamplingSettings
    from elf_lightning.sampling.solvers import (
        HeunSolver,
        MultistepSolver,
        OdeSolver,
        SdeSolver,
        Solver,
        integrate,
        make_solver,
    )

__all__ = [
    "ClassifierFreeGuidance",
    "HeunSolver",
    "Infill",
    "KnownLatents",
    "LatentField",
    "MultistepSolver",
    "OdeSolver",
    "SampleResult",
    "Sampler",
    "SamplingSettings",
    "SdeSolver",
    "Solver",
    "Step",
    "Trajectory",
    "TwoPassGuidance",
    "integrate",
    "make_solver",
    "measure_direction",
    "time_grid",
]

_MODULES = {
    "ClassifierFreeGuidance": "guidance",
    "HeunSolver": "solvers",
    "Infill": "sampler",
    "KnownLatents": "field",
    "LatentField": "field",
    "MultistepSolver": "solvers",
    "OdeSolver": "solvers",
    "SampleResult": "sampler",
    "Sampler": "sampler",
    "SamplingSettings": "settings",
    "SdeSolver": "solvers",
    "Solver": "solvers",
    "Step": "sampler",
    "Trajectory": "sampler",
    "TwoPassGuidance": "guidance",
    "integrate": "solvers",
    "make_solver": "solvers",
    "measure_direction": "repetition",
    "time_grid": "grid",
}


def __getattr__(name: str) -> Any:
    """Import a public name's module the first time the name is used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
