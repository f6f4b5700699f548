"""Settings of an evaluation, in plain types for YAML files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Literal, get_type_hints

from elf_lightning.errors import UserError
from elf_lightning.metrics import MetricNumber, ScoringModelSettings
from elf_lightning.reporting import Estimate, Scores
from elf_lightning.sampling.settings import GridName, SamplingSettings


@dataclass(frozen=True)
class PublishedScores:
    """A published result, shown beside the model's as a row of the table and the report.

    Attributes:
        source: what was measured, and where it is published.
        metrics: the numbers by name, as tables show them: ROUGE in percent.
        num_samples: texts that it was measured on.
    """

    source: str
    metrics: dict[str, float]
    num_samples: int = 1000

    def scores(self, measured: Mapping[str, MetricNumber]) -> Scores:
        """The row, for a model of which these numbers are measured; a `UserError` for any other number."""
        if unknown := [name for name in self.metrics if name not in measured]:
            raise UserError(
                f"evaluation.published.metrics: {unknown[0]!r} is not measured here; choose from "
                f"{', '.join(measured)}"
            )
        units = {name: 100 if measured[name].percent else 1 for name in self.metrics}
        metrics = {name: Estimate(value / units[name]) for name, value in self.metrics.items()}
        return Scores(f"published: {self.source}", "published", self.num_samples, 1, metrics)


@dataclass(frozen=True)
class LikelihoodSettings:
    """How to bound the likelihood of texts.

    Attributes:
        num_texts: the first texts of each set that are measured.
        last_time: where the flow ends and the decoder reads the noised latents, in (0, 1).
        steps: Heun steps from there to noise; with too few, the number is no bound; or terms of the
            diffusion bound.
        probes: random vectors per step that estimate the divergence; two or more give its error.
        bound: `flow` takes the density of the probability flow, up to the error of its steps; `diffusion` is
            the variational bound of the reverse SDE with the same estimate (not of the solver `sde`), which
            has no such error.
        reconstructed: centre the noise on the network's own estimate of the clean latents, a function of the
            tokens too, which the network can reproduce; False: on the encoder's latents.
        self_cond: give the network its own estimate at the same latents and time, at twice the cost.
        guidance: self-conditioning guidance scale `w`; 1 is the model without guidance.
        seed: of noise and probes.
        batch_size: texts measured at once.
    """

    num_texts: int = 8
    last_time: float = 0.33
    steps: int = 32
    probes: int = 2
    bound: Literal["flow", "diffusion"] = "flow"
    reconstructed: bool = True
    self_cond: bool = True
    guidance: float = 1.0
    seed: int = 0
    batch_size: int = 8

    def __post_init__(self) -> None:
        for name in ("num_texts", "steps", "probes", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"evaluation.likelihood.{name} is {getattr(self, name)}; give at least 1")
        if not 0 < self.last_time < 1:
            raise UserError(
                f"evaluation.likelihood.last_time is {self.last_time}; give a time between 0 and 1"
            )
        if self.bound not in ("flow", "diffusion"):
            raise UserError(f"evaluation.likelihood.bound is {self.bound}; choose flow or diffusion")
        if self.guidance < 0:
            raise UserError(f"evaluation.likelihood.guidance is {self.guidance}; it must be 0 or more")

    @property
    def short_name(self) -> str:
        """What a reader must know to compare the numbers."""
        flow, end = self.bound == "flow", f"up to t={self.last_time:g}"
        how = f"Heun steps {end}, {self.probes} probes a step" if flow else f"times {end}"
        return (
            f"{self.bound} bound, {self.steps} {how}, "
            f"noise around {'reconstructed' if self.reconstructed else 'encoder'} latents, "
            f"w {self.guidance:g}, {'with' if self.self_cond else 'without'} self-conditioning, "
            f"seed {self.seed}, at most {self.num_texts} texts a set"
        )


@dataclass(frozen=True)
class EvaluationSettings:
    """Which texts to generate, and how to score them.

    Attributes:
        settings: sampling configurations to compare, each complete: a setting left out has its published
            value, not the model's own. By default the model's own configuration.
        sweep: values of sampling settings to try in each of `settings`, or in the model's own, in all
            combinations, such as `guidance: [1, 2, 3]`.
        num_samples: texts per sampling configuration and seed; published scores use 1,000. In text-to-text
            tasks, the first `num_samples` validation pairs, or all if there are fewer.
        seeds: one set of texts per seed; several seeds give a mean with a confidence interval.
        batch_size: texts sampled at once per device; affects memory and speed, not the texts.
        scoring_model: scores unconditional text.
        metrics: additional metrics, by name or class path, subclasses of `TextMetric`.
        likelihood: also bound the likelihood of the texts under the model itself; None does not.
        cut_answers: score the first `max_length - max_condition_length` tokens of an answer, as published
            text-to-text scores do.
        published: a published result to compare with.
    """

    settings: list[SamplingSettings] = field(default_factory=list)
    sweep: dict[str, list[int | float | str]] = field(default_factory=dict)
    num_samples: int = 1000
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    batch_size: int = 32
    scoring_model: ScoringModelSettings = ScoringModelSettings()
    metrics: list[str] = field(default_factory=list)
    likelihood: LikelihoodSettings | None = None
    cut_answers: bool = False
    published: PublishedScores | None = None

    def __post_init__(self) -> None:
        for name in ("num_samples", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"evaluation.{name} is {getattr(self, name)}; it must be at least 1")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"evaluation.seeds is {self.seeds}; give one or more different seeds")
        for name, values in self.sweep.items():
            _check_swept(name, values)
        self.configurations(SamplingSettings())

    def configurations(self, own: SamplingSettings) -> dict[str, SamplingSettings]:
        """The distinct sampling configurations to compare, by name; `own` is the model's."""
        no_times: dict[str, Any] = {"times": None} if self.sweep.keys() & {"steps", "grid"} else {}
        combinations = [
            no_times | dict(zip(self.sweep, values, strict=True)) for values in product(*self.sweep.values())
        ]
        found = [replace(base, **values) for base in self.settings or [own] for values in combinations]
        return {one.short_name: one for one in found}


def _check_swept(name: str, values: Sequence[int | float | str]) -> None:
    types = {int: (int,), float: (int, float), float | None: (int, float), str: (str,), GridName: (str,)}
    hints = get_type_hints(SamplingSettings)
    swept = {key: types[hint] for key, hint in hints.items() if hint in types}
    if name not in swept:
        raise UserError(f"evaluation.sweep: '{name}' cannot be swept; choose from {', '.join(swept)}")
    if not values:
        raise UserError(f"evaluation.sweep.{name} has no values; give at least one, or remove it")
    if wrong := [value for value in values if not isinstance(value, swept[name])]:
        wanted = "names" if swept[name] == (str,) else f"values of type {swept[name][-1].__name__}"
        raise UserError(f"evaluation.sweep.{name} has the value {wrong[0]!r}; give {wanted}")
