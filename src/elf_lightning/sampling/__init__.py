"""Noise -> latents -> tokens: grids, guidance, solvers, the sampler and decoding.

The public names are imported on first use: the command line needs the settings alone, and torch takes
seconds.
"""

from typing import TYPE_CHECKING

from elf_lightning.lazy import on_first_use

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

__getattr__ = on_first_use(
    __name__,
    {
        "field": ["KnownLatents", "LatentField"],
        "grid": ["time_grid"],
        "guidance": ["ClassifierFreeGuidance", "TwoPassGuidance"],
        "repetition": ["measure_direction"],
        "sampler": ["Infill", "SampleResult", "Sampler", "Step", "Trajectory"],
        "settings": ["SamplingSettings"],
        "solvers": [
            "HeunSolver",
            "MultistepSolver",
            "OdeSolver",
            "SdeSolver",
            "Solver",
            "integrate",
            "make_solver",
        ],
    },
)
