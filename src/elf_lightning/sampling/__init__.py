"""Noise -> latents -> tokens: grids, guidance, solvers, the sampler and decoding."""

from elf_lightning.sampling.grid import time_grid
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
    "HeunSolver",
    "Infill",
    "MultistepSolver",
    "OdeSolver",
    "SampleResult",
    "Sampler",
    "SamplingSettings",
    "SdeSolver",
    "Solver",
    "Step",
    "Trajectory",
    "integrate",
    "make_solver",
    "measure_direction",
    "time_grid",
]
