"""How to sample, in plain types that travel in YAML files and checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Self, get_args

from elf_lightning.errors import UserError

SolverName = Literal["ode", "sde", "heun", "multistep"]
GridName = Literal["logit_normal", "uniform"]
DEFAULT_TRAJECTORIES = 400
"""Texts from which to measure the direction of repetition (arXiv 2607.00588)."""
MEASURING_SEED = 260700588
"""Theirs alone, so that no text is steered by itself."""


@dataclass(frozen=True)
class SamplingSettings:
    """From noise to text (arXiv 2605.10938, section 3 and its sampling tables).

    The defaults are the published ones for unconditional text; `text_to_text` has those for translation
    and summarisation.

    Attributes:
        steps: solver steps; `heun` calls the network twice a step, all others once.
        solver: `ode` (Euler), `sde` (Euler after adding noise back), `heun` or `multistep` (second order).
        gamma: how much noise `sde` adds back; 1.5 is good for 32 steps, 1.0 for 64.
        grid: where the times lie, `logit_normal` (drawn from the training distribution) or `uniform`.
        times: explicit times from 0 (noise) to 1 (data); replaces `steps` and `grid`.
        guidance: self-conditioning guidance scale `w`.
        cfg_scale: classifier-free guidance on the condition; 1 is none, and costs half as much.
        temperature: of the decoder's token choice; 0 takes the most likely token.
        top_k: choose among the k most likely tokens only; 0 is all. Needs a temperature above 0.
        repetition_control: strength `lambda` of the steering away from repetition (arXiv 2607.00588);
            0 is off, 1.5 to 5 is useful.
    """

    steps: int = 32
    solver: SolverName = "sde"
    gamma: float = 1.5
    grid: GridName = "logit_normal"
    times: list[float] | None = None
    guidance: float = 3.0
    cfg_scale: float = 1.0
    temperature: float = 0.0
    top_k: int = 0
    repetition_control: float = 0.0

    def __post_init__(self) -> None:
        """Refuse settings that cannot be sampled with.

        Raises:
            UserError: for a value out of its range or a name that is not known.
        """
        for name, least in {"steps": 1, "top_k": 0}.items():
            if getattr(self, name) < least:
                raise UserError(f"sampling.{name} is {getattr(self, name)}; it must be at least {least}")
        for name in ("gamma", "guidance", "cfg_scale", "temperature", "repetition_control"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UserError(f"sampling.{name} is {getattr(self, name)}; it must be 0 or more")
        for name, known in {"solver": get_args(SolverName), "grid": get_args(GridName)}.items():
            if getattr(self, name) not in known:
                raise UserError(f"sampling.{name} is {getattr(self, name)!r}; known are {', '.join(known)}")
        if self.top_k > 0 and self.temperature == 0:
            raise UserError(
                f"sampling.top_k is {self.top_k} but sampling.temperature is 0, which always takes the most "
                "likely token; set a temperature above 0"
            )
        if self.times is not None:
            _check_times(self.times)

    @property
    def num_steps(self) -> int:
        """Solver steps: `steps`, or those between the `times`."""
        return self.steps if self.times is None else len(self.times) - 1

    @classmethod
    def text_to_text(cls) -> Self:
        """The published settings for translation and summarisation."""
        return cls(steps=64, solver="ode", guidance=1.0, cfg_scale=2.0)


def _check_times(times: list[float]) -> None:
    rising = all(earlier < later for earlier, later in pairwise(times))
    if len(times) < 2 or times[0] != 0 or times[-1] != 1 or not rising:
        raise UserError(f"sampling.times is {times}; give rising times that start at 0 and end at 1")
