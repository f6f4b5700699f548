"""Sampling configuration, in plain types for YAML files and checkpoints."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, Self, get_args

from elf_lightning.errors import UserError

if TYPE_CHECKING:
    from elf_lightning.sampling.solvers import Solver

GridName = Literal["logit_normal", "quantiles", "uniform"]
DEFAULT_TRAJECTORIES = 400  # texts from which to measure the direction of repetition (arXiv 2607.00588)
MEASURING_SEED = 260700588  # seed of these texts, used for nothing else, so that no text is steered by itself
MAX_STEPS = 100_000  # more than anybody waits for: a damaged file may give any number
MAX_CANDIDATES = 10_000
_NUMBERS = (
    *("gamma", "gamma_end", "gamma_power", "guidance", "cfg_scale", "temperature", "top_k"),
    *("repetition_control", "early_exit_margin", "early_exit_fraction", "best_of"),
)
WITHOUT_GAMMA = ("ode", "euler", "heun", "multistep", "feedback")  # solvers that do not use it; yours may


@dataclass(frozen=True)
class SamplingSettings:
    """From noise to text (arXiv 2605.10938, section 3 and its sampling tables).

    The defaults are the published ones for unconditional text; `text_to_text` has those for translation
    and summarisation. A value out of its range, or an unknown name, is a `UserError`.

    Attributes:
        steps: solver steps; `heun` calls the network twice a step, all others once.
        solver: `sde` (Euler after adding noise back), `ode` (Euler), `heun` or `multistep` (second order),
            `feedback` (for students of rollout distillation), or the class path of your own solver.
        solver_options: arguments for the solver's constructor, such as `{"max_growth": 1.5}` for `multistep`.
        gamma: how much noise `sde` adds back; 1.5 is good for 32 steps, 1.0 for 64.
        gamma_end: anneals this noise, `gamma(t) = gamma_end + (gamma - gamma_end) * (1 - t)^gamma_power`;
            constant by default.
        gamma_power: exponent of the annealing.
        grid: where the times lie: `logit_normal` (drawn from the training distribution), `quantiles` (of this
            distribution, evenly spaced in probability, the same for every seed) or `uniform`.
        grid_per_batch: draw new times for each batch, as the official code does; a text then depends on the
            first number of its batch, and so on the batch size.
        times: explicit times from 0 (noise) to 1 (data); replaces `steps` and `grid`.
        guidance: self-conditioning guidance scale `w`.
        cfg_scale: classifier-free guidance on the condition; 1 is off, and costs half as much.
        temperature: of the decoder's token choice; 0 takes the most likely token.
        top_k: choose among the k most likely tokens only; 0 is all. Needs a temperature above 0.
        known_words: at a temperature of 0, decode to words of the training text alone; the model must have a
            list of them.
        repetition_control: strength `lambda` of the steering away from repetition (arXiv 2607.00588);
            0 is off, 1.5 to 5 is useful.
        early_exit_margin: stop early where tokens no longer change and their logits exceed the next by this
            margin; 0 is off.
        early_exit_fraction: fraction of a text's tokens for which this must hold.
        best_of: candidates drawn for each text, of which the one whose tokens the decoder finds most likely
            from noised latents is kept; costs as many times the network calls.
    """

    steps: int = 32
    solver: str = "sde"
    solver_options: dict[str, int | float | str] = field(default_factory=dict)
    gamma: float = 1.5
    gamma_end: float | None = None
    gamma_power: float = 1.0
    grid: GridName = "logit_normal"
    grid_per_batch: bool = False
    times: list[float] | None = None
    guidance: float = 3.0
    cfg_scale: float = 1.0
    temperature: float = 0.0
    top_k: int = 0
    known_words: bool = False
    repetition_control: float = 0.0
    early_exit_margin: float = 0.0
    early_exit_fraction: float = 1.0
    best_of: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= MAX_STEPS:
            raise UserError(f"sampling.steps is {self.steps}; it must be at least 1, at most {MAX_STEPS:,}")
        for name in _NUMBERS:
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise UserError(f"sampling.{name} is {value}; it must be 0 or more")
        if (fraction := self.early_exit_fraction) > 1:
            raise UserError(f"sampling.early_exit_fraction is {fraction}; it must be at most 1")
        if not 1 <= self.best_of <= MAX_CANDIDATES:
            raise UserError(f"sampling.best_of is {self.best_of}; it must be 1 to {MAX_CANDIDATES:,}")
        if self.grid not in get_args(GridName):
            raise UserError(f"sampling.grid is {self.grid!r}; known are {', '.join(get_args(GridName))}")
        if self.top_k > 0 and self.temperature == 0:
            raise UserError(
                f"sampling.top_k is {self.top_k} but sampling.temperature is 0, which always takes the most "
                "likely token; set a temperature above 0"
            )
        if (times := self.times) is not None:
            rising = all(earlier < later for earlier, later in pairwise(times))
            if len(times) < 2 or times[0] != 0 or times[-1] != 1 or not rising:
                raise UserError(f"sampling.times is {times}; give rising times that start at 0 and end at 1")
        self.build_solver()

    def build_solver(self) -> "Solver":
        """A fresh solver, imported if need be; a `UserError` if there is none, or it refuses its options."""
        from elf_lightning.sampling.solvers import solver_class  # imports torch, which `--help` does without

        chosen = solver_class(self.solver)
        try:
            return chosen.from_settings(self)
        except TypeError as error:
            raise UserError(
                f"sampling.solver {self.solver!r} cannot be built with sampling.solver_options "
                f"{self.solver_options}: {error}"
            ) from error

    @property
    def num_steps(self) -> int:
        """Solver steps: `steps`, or those between the `times`."""
        return self.steps if self.times is None else len(self.times) - 1

    @property
    def short_name(self) -> str:
        """A short name that identifies the settings, such as `SDE 32 steps, gamma 1.5, w 3`."""
        steps = f"{self.steps} steps"
        if self.times is not None:
            steps = "times " + " ".join(f"{time:g}" for time in self.times)
        # A class path in full: other modules may have a class of the same name.
        parts = [f"{self.solver if '.' in self.solver else self.solver.upper()} {steps}"]
        parts += [f"{name} {value}" for name, value in self.solver_options.items()]
        if self.solver == "sde":
            end = self.gamma_end
            parts.append(f"gamma {self.gamma:g}")
            parts[-1] += "" if end is None else f" to {end:g} (power {self.gamma_power:g})"
        parts.append(f"w {self.guidance:g}")
        if self.times is None and self.grid != "logit_normal":
            parts.append(f"{self.grid} grid")
        if self.grid_per_batch:
            parts.append("grid per batch")
        gammas = () if self.solver in ("sde", *WITHOUT_GAMMA) else _NUMBERS[:3]
        others = {name: getattr(self, name) for name in (*gammas, *_NUMBERS[4:])}
        default = SamplingSettings()
        parts += [
            f"{name.replace('_', ' ')} {value:g}"
            for name, value in others.items()
            if value != getattr(default, name)
        ]
        parts += ["known words"] * self.known_words
        return ", ".join(parts)

    @classmethod
    def text_to_text(cls) -> Self:
        """The published settings for translation and summarisation."""
        return cls(steps=64, solver="ode", guidance=1.0, cfg_scale=2.0)
