"""One number that a metric gives, and how tables, reports and plots show it."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class MetricNumber:
    """The name and format of one number.

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
