"""What all metrics of texts share: they register themselves, count their samples, and refuse empty input."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from elf_lightning.errors import UserError
from elf_lightning.ranks import gathered


@dataclass(frozen=True)
class MetricNumber:
    """The name of one number that a metric gives, and how tables, reports and plots show it.

    Attributes:
        name: in records and logs.
        title: in headings.
        meaning: one line that says what it measures and which values are good.
        digits: decimal places.
        percent: show a value of 0 to 1 as a percentage.
        needs_scoring_model: whether it depends on the scoring model.
        higher_is_better: False where lower is better, None where being close to real text is.
        headline: show it at the top of the report, beside real text.
        log: equal ratios are equal steps on an axis.
    """

    name: str
    title: str
    meaning: str = ""
    digits: int = 2
    percent: bool = False
    needs_scoring_model: bool = False
    higher_is_better: bool | None = None
    headline: bool = False
    log: bool = False

    def show(self, value: float) -> str:
        """The value as text; `none` for NaN."""
        return "none" if math.isnan(value) else f"{100 * value if self.percent else value:.{self.digits}f}"


class TextMetric(Metric):
    """A metric of texts, any number of them on any rank; its keyword arguments are torchmetrics'.

    Declaring `numbers` makes a subclass known to tables, reports and plots. Its states are sums of a fixed
    size, so a rank without texts takes part in the reduction like the others. `compute` raises a `UserError`
    if there are no samples, or all are empty; then `reset` makes the metric usable again.

    Attributes:
        numbers: what `compute` gives: a scalar for one number, a dict by name for several.
        paired: whether `update` takes a reference for each text.
        registered: every metric by the names of its numbers.
    """

    numbers: ClassVar[Sequence[MetricNumber]] = ()
    paired: ClassVar[bool] = False
    registered: ClassVar[dict[str, type["TextMetric"]]] = {}

    full_state_update = False
    is_differentiable = False

    samples: Tensor
    nonempty: Tensor

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "numbers" in cls.__dict__:
            TextMetric.registered.update({number.name: cls for number in cls.numbers})
            cls.higher_is_better = cls.numbers[0].higher_is_better

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_sum("samples", torch.int64)
        self.add_sum("nonempty", torch.int64)

    @property
    def signature(self) -> str:
        """Settings and version that a reader needs to compare the numbers; shown below them unless empty."""
        return ""

    def add_sum(self, name: str, dtype: torch.dtype, size: tuple[int, ...] = ()) -> None:
        """Add a state of zeros that is summed over ranks: int64 counts, or float64 against rounding."""
        self.add_state(name, torch.zeros(size, dtype=dtype), dist_reduce_fx="sum")

    def count_samples(self, texts: Sequence[str], *references: Sequence[str]) -> None:
        """Count the texts, and those that are more than white space; refuse another number of references."""
        if references and len(texts) != len(references[0]):
            raise UserError(f"{len(texts)} hypotheses for {len(references[0])} references; give as many")
        self.samples += len(texts)
        self.nonempty += sum(1 for text in texts if text.strip())

    def require_text(self) -> None:
        """Refuse to compute a number if there are no samples on any rank, or all are empty."""
        name = type(self).__name__
        if self.samples == 0:
            raise UserError(f"{name} has no samples to score; give it at least one text")
        if self.nonempty == 0:
            raise UserError(f"{name}: all {int(self.samples)} samples are empty; is the model trained?")


class SampleMean(TextMetric):
    """The mean over samples of the numbers that a subclass gives in `measure`.

    Attributes:
        per_sample: float64, (N,) or, for K numbers, (N, K): those of the last update's texts on this rank.
    """

    total: Tensor
    measured: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        size = (len(self.numbers),) if len(self.numbers) > 1 else ()
        self.add_sum("total", torch.float64, size)
        self.add_sum("measured", torch.int64, size)
        self.per_sample = torch.empty(0, *size, dtype=torch.float64)

    def measure(self, texts: Sequence[str], *references: Sequence[str]) -> Sequence[float | Sequence[float]]:
        """One number for each text, or a list of all `numbers`; NaN is left out of the mean."""
        raise NotImplementedError

    def update(self, texts: Sequence[str], *references: Sequence[str]) -> None:
        """Add N texts and, to a paired metric, their references."""
        self.count_samples(texts, *references)
        measured = torch.tensor(self.measure(texts, *references), dtype=torch.float64)
        self.per_sample = measured.reshape(len(texts), *self.total.shape)
        self.total += self.per_sample.nansum(0).to(self.device)
        self.measured += (~self.per_sample.isnan()).sum(0).to(self.device)

    def compute(self) -> Tensor | dict[str, Tensor]:
        """The mean, a float64 scalar, or a dict by name for several; NaN where every text is too short."""
        self.require_text()
        mean = self.total / self.measured
        names = [number.name for number in self.numbers]
        return mean if mean.ndim == 0 else dict(zip(names, mean, strict=True))


class CorpusMetric(TextMetric):
    """A number of all texts together, which a subclass gives in `measure`; every rank gathers the texts."""

    pairs: list[tuple[str, ...]]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("pairs", [], dist_reduce_fx=None)

    def measure(self, texts: Sequence[str], *references: Sequence[str]) -> float:
        """The number of the texts of all ranks, NaN where they have none."""
        raise NotImplementedError

    def update(self, texts: Sequence[str], *references: Sequence[str]) -> None:
        """Add N texts and, to a paired metric, their references."""
        self.count_samples(texts, *references)
        self.pairs += zip(texts, *references, strict=True)

    def compute(self) -> Tensor:
        """The number, a float64 scalar; NaN where every text is too short."""
        self.require_text()
        value = self.measure(*map(list, zip(*self.pairs, strict=True)))
        return torch.tensor(value, dtype=torch.float64, device=self.device)

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        super()._sync_dist(*args, **kwargs)
        self.pairs = gathered(self.pairs)

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ()) -> nn.Module:
        # Texts are a state without tensors, which does not move between devices.
        return super()._apply(fn, exclude_state=(*exclude_state, "pairs"))


def import_optional(module: str, package: str) -> ModuleType:
    """Import `module` of the optional `package`, or tell how to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(f"{module} is missing ({error}); pip install {package}") from error
