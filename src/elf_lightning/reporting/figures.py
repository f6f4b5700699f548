"""Axes of the plots: numbers -> places on the page, and round numbers to mark."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

MARKS = (1, 2, 5)
LETTER = 6.2
"""Width of a letter of the labels, about."""
REACHES = (9, 24, 40, 60, 84)
AROUND = ((1, 0), (-1, 0), (0, -1.3), (0, 1.3), (1, -1), (1, 1), (-1, -1), (-1, 1))
"""How far from its point a label may be, in pixels, and where: right, left, above, below, between."""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Axis:
    """A range of numbers.

    Attributes:
        title: what they are.
        low: at the beginning.
        high: at the end, above `low`.
        log: even steps are equal ratios.
    """

    title: str
    low: float
    high: float
    log: bool = False

    @classmethod
    def around(cls, title: str, values: Iterable[float], log: bool = False, margin: float = 0.08) -> Self:
        """An axis with some room around finite values, which are above 0 if it is logarithmic."""
        known = [value for value in values if math.isfinite(value) and (value > 0 or not log)] or [1.0]
        low, high = min(known), max(known)
        if log:
            room = max(math.log(high / low) * margin, 0.05)
            return cls(title, low * math.exp(-room), high * math.exp(room), log)
        room = max((high - low) * margin, abs(high) * 0.02, 1e-9)
        return cls(title, low - room, high + room)

    def place(self, value: float) -> float:
        """Where the value is, 0 at `low` and 1 at `high`."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int) -> list[float]:
        """Round numbers on the axis, at most `most` of them."""
        return self._log_ticks(most) if self.log else self._even_ticks(most)

    def _even_ticks(self, most: int) -> list[float]:
        exponent = math.floor(math.log10((self.high - self.low) / most))
        steps = (mark * 10.0 ** (exponent + more) for more in (0, 1) for mark in MARKS)
        return next(ticks for ticks in map(self._multiples, steps) if len(ticks) <= most)

    def _multiples(self, step: float) -> list[float]:
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [number * step for number in range(first, last + 1)]

    def _log_ticks(self, most: int) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for marks in (range(1, 10), MARKS, (1, 3), (1,)):
            values = (mark * 10.0**exponent for exponent in range(first, last + 1) for mark in marks)
            if 2 <= len(ticks := [value for value in values if self.low <= value <= self.high]) <= most:
                return ticks
        return self._even_ticks(most)


@dataclass(frozen=True)
class Frame:
    """A plot's inner rectangle with its axes, in pixels.

    Attributes:
        width: of the whole plot.
        height: of the whole plot.
        x: axis from left to right.
        y: axis from bottom to top.
    """

    width: int
    height: int
    x: Axis
    y: Axis

    LEFT = 44
    RIGHT = 12
    TOP = 12
    BOTTOM = 40

    def across(self, value: float) -> float:
        """Pixels from the left."""
        return round(self.LEFT + self.x.place(value) * (self.width - self.LEFT - self.RIGHT), 1)

    def down(self, value: float) -> float:
        """Pixels from the top."""
        return round(
            self.height - self.BOTTOM - self.y.place(value) * (self.height - self.TOP - self.BOTTOM), 1
        )

    def svg(self, content: str, description: str) -> str:
        """The plot: grid, axes and `content`.

        Args:
            content: SVG elements in this frame's pixels.
            description: what is to be seen, for those who cannot.
        """
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}" '
            f'role="img" aria-label="{html.escape(description)}">{self._grid()}{content}</svg>'
        )

    def _grid(self) -> str:
        bottom, right = self.height - self.BOTTOM, self.width - self.RIGHT
        parts = []
        for value in self.x.ticks(max(2, (right - self.LEFT) // 64)):
            x = self.across(value)
            parts.append(f'<line class="grid" x1="{x}" y1="{self.TOP}" x2="{x}" y2="{bottom}"/>')
            parts.append(
                f'<text class="tick" x="{x}" y="{bottom + 15}" text-anchor="middle">{value:,g}</text>'
            )
        for value in self.y.ticks(max(2, (bottom - self.TOP) // 40)):
            y = self.down(value)
            parts.append(f'<line class="grid" x1="{self.LEFT}" y1="{y}" x2="{right}" y2="{y}"/>')
            parts.append(
                f'<text class="tick" x="{self.LEFT - 6}" y="{y + 4}" text-anchor="end">{value:,g}</text>'
            )
        middle = (self.LEFT + right) / 2
        parts.append(
            f'<text class="axis" x="{middle}" y="{self.height - 6}" text-anchor="middle">'
            f"{html.escape(self.x.title)}</text>"
        )
        if self.y.title:
            parts.append(
                f'<text class="axis" x="{self.LEFT}" y="{self.TOP - 2}" text-anchor="start">'
                f"{html.escape(self.y.title)}</text>"
            )
        return "".join(parts)


@dataclass
class Labels:
    """Texts beside points that keep out of each other's way.

    Attributes:
        frame: where they are.
    """

    frame: Frame

    def __post_init__(self) -> None:
        self._taken: list[Box] = []

    def keep_free(self, x: float, y: float, radius: float) -> None:
        """Have no label on this point."""
        self._taken.append((x - radius, y - radius, x + radius, y + radius))

    def beside(self, x: float, y: float, text: str, css: str = "") -> str:
        """The label of a point: near it, or with a line to it from further off; nowhere if all is full."""
        width = LETTER * len(text)
        for reach in REACHES:
            for across, down in AROUND:
                left = x + across * (reach + width / 2) - width / 2
                baseline = y + 4 + down * reach
                box = (left, baseline - 11, left + width, baseline + 3)
                if self._inside(box) and not any(_meet(box, other) for other in self._taken):
                    self._taken.append(box)
                    place = f'x="{left:.1f}" y="{baseline:.1f}"'
                    label = f'<text class="label {css}" {place}>{html.escape(text)}</text>'
                    return self._leader(x, y, box, down, reach) + label
        return ""

    def _leader(self, x: float, y: float, box: Box, down: float, reach: float) -> str:
        """A line from a point to a label that is not right beside it."""
        if not down or reach == REACHES[0]:
            return ""
        edge = box[3] if down < 0 else box[1]
        return f'<line class="leader" x1="{x}" y1="{y}" x2="{(box[0] + box[2]) / 2:.1f}" y2="{edge:.1f}"/>'

    def _inside(self, box: Box) -> bool:
        frame = self.frame
        return (
            box[0] >= frame.LEFT
            and box[1] >= frame.TOP
            and box[2] <= frame.width
            and box[3] <= frame.height - frame.BOTTOM
        )


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
